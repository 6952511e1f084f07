"""Column mapping: what the columns of an unknown workbook mean, proposed and applied."""
