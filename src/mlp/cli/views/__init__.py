"""How the results of each verb look: text for people, documents for machines."""
