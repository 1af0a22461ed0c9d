"""Makes the bucket that MLflow keeps its artefacts in, unless it is there."""

import sys

import boto3
from botocore.exceptions import ClientError

s3, bucket = boto3.client("s3"), sys.argv[1]
try:
    s3.head_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:  # such as 403: the keys are wrong
        raise
    s3.create_bucket(Bucket=bucket)
