"""Tables, data frames and plots of results. No torch; rich, pandas and matplotlib are imported when first needed."""
