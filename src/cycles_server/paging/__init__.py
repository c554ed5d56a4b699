"""Lists for every plane: what a query may ask of any list, walks over what is stored, pages, and
cursors. Nothing here knows what the rows are."""
