"""What a DAG is made of: sessions, uploads, projects."""
