"""The schema's history, one DDL statement per revision: MySQL commits each DDL by itself."""
