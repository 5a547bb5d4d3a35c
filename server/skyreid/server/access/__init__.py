"""Who may ask for what: tokens, sessions of the page, roles."""
