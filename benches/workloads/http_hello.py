"""The smallest response there is, from an application that does nothing else."""

from benches.http_load import main_application

if __name__ == "__main__":
    main_application("hello")
