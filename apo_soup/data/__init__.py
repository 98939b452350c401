"""Rows to conversations, conversations to tokens with trained spans, documents to packed sequences.

In the order in which a row passes through them:

    source, read, json_rows, table_rows, hub_rows, draw     rows of a mixture, each as often as its weight asks
    formats, messages, conversation                         one shape for all of them, checked field by field
    template, trained_spans                                 text, and the characters of it that carry loss
    encode, encoder, encode_supervised, encode_pairs        token ids and trained ranges, cut to max_length
    char_to_token, text_cuts, prefix_cache, token_threads   what makes that quick
    row_faults, mask_check, pair_check                      what is trained is what should be trained
    clean, words, duplicates, contamination                 rows that are left out
    options, documents                                      what passes between them
    document_file, packing, splits, writer                  documents to packed sequences on disk
    statistics, mixture, preparation, prepare, preview      the whole of it: `apo-soup prepare`, `apo-soup preview`
"""
