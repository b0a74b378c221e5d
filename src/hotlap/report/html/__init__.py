"""The report as one HTML file that loads nothing: tables, plots and pictures of what the store and records hold."""
