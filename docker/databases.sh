#!/bin/sh
# PostgreSQL's image runs this once, on an empty volume: a database and its owner for each server.
set -eu
for name in prefect mlflow; do
    psql -v ON_ERROR_STOP=1 -v name="$name" --username "$POSTGRES_USER" --dbname postgres <<SQL
\getenv password $(echo "$name" | tr a-z A-Z)_DB_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
