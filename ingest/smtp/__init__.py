"""SMTP and LMTP listeners: a sender gets 250 after the mail is stored."""
