"""People over hours: who came back, asked of everybody whose looks are kept."""
