"""Plain data and pure functions: configuration, identity, events, errors, comparison."""
