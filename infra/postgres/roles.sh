#!/bin/bash
# The last step of the first start: users and databases, as `init` wrote them.
set -euo pipefail
psql --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres --file /run/orrery/roles.sql
touch "${PGDATA%/*}/initialized"
