"""One module a file format: .xlsx, .xlsb, .xls, .ods, CSV, HTML, XML."""
