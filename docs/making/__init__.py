"""What is made of the sources for readers: the site's pages, the AsyncAPI document and its tables."""
