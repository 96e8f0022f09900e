-- A search reads every vector of its spaces, so a vector stays in its row while it fits a page: up to 4,000 dimensions,
-- or 1,000 terms. By default what exceeds 2 kB is moved out and fetched one by one, which takes two to three times as
-- long. Rows that are there already stay as they are.
ALTER TABLE collections_chunkembedding SET (toast_tuple_target = 8160);
ALTER TABLE collections_chunkterms SET (toast_tuple_target = 8160);
