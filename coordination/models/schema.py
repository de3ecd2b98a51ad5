"""The schema that every table stands in."""

from sqlalchemy import DateTime, MetaData

SCHEMA = "fleet"
MOMENT = DateTime(timezone=True)

metadata = MetaData(schema=SCHEMA)
