"""Embedded PostgreSQL and Valkey from wheels: started and stopped here, in one data folder, and examined by the doctor."""
