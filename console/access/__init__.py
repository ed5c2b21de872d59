"""Who may come to the console, and what each may ask and see there."""
