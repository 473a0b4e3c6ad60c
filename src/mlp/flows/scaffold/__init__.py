"""Making a project from a template, and updating it to a newer one."""
