"""Tables, contrasts, plots and the page of experiments."""
