"""One door per tool. Nothing else imports the tool, and doors never import each other."""
