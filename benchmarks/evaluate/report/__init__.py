"""The report: tables in Markdown, plots, a contact sheet, and one page that answers first who is found again."""
