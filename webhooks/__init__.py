"""Public HTTP: signed webhooks. Faces the internet and shows nothing."""
