"""boto3: objects of S3, from a server that is enough of it."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from support import HOST, Gate, Where, answer_to
from support import Library as Base


class Library(Base):
    lost = (BotoCoreError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{where.port}",
            region_name="us-east-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            config=Config(
                max_pool_connections=self.size,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    def call(self, gate: Gate, number: int) -> None:
        got = self.client.get_object(Bucket=gate.key, Key=str(number))
        assert got["Body"].read().decode() == answer_to(number)

    def close(self) -> None:
        self.client.close()
