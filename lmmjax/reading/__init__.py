"""Reading a fit: tables, predictions and texts made from it, one topic a file."""
