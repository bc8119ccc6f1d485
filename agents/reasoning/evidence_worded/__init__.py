"""The reasoning style for very small models: the model words computed evidence."""
