"""Steps from one release's tables to the next one's; alembic runs them. They never import the tables of today."""
