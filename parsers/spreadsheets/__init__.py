"""Table files of any format as sheets of rows; knows nothing of messages."""
