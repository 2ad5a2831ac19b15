"""Programs that Junctor brings along: PostgreSQL, Valkey and HAProxy as processes of an environment."""
