#!/bin/sh
# Begins the run at the container's first start, and goes on with it at each later one. Arguments are the manager's.
set -eu
if [ -e /state/run/recipe.json ]; then
  set -- --resume /state/run "$@"
else
  set -- /etc/podlt/recipe.toml --run /state/run "$@"
fi
exec podlt manager "$@" --port 4222 --metrics 0.0.0.0:9464 --log-format json --quiet
