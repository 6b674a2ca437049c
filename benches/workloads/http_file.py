"""A file of 1 MiB, by `wsgi.file_wrapper`."""

from benches.http_load import main_application

if __name__ == "__main__":
    main_application("file")
