"""A view of Flask that answers at once."""

from benches.http_load import main_application

if __name__ == "__main__":
    main_application("flask")
