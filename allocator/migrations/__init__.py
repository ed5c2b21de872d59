"""The schema's history, one change per revision, safe to repeat: MySQL commits each DDL by itself."""
