"""A second reader of cut-outs, which shares nothing with the judge: it describes a sheet, and answers from the description."""
