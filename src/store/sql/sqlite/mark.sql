-- Marks the file as the exporter's own (the text "LRXs") and names the last migration. SQLite.
pragma application_id = 1280465011;
pragma user_version = 1;
