"""The smallest response there is, from a coroutine that does nothing else."""

from benches.http_load import main_application

if __name__ == "__main__":
    main_application("asgi_hello")
