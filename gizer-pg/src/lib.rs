//! Everything gizer says to PostgreSQL: DDL, COPY, staging and state.
