"""Files of other tools, row by row: whatever their format, and what the rows of known shapes say.

files.py                                    a file, a folder or a dataset on the hub -> rows
delimited.py  json_rows.py                  the formats: CSV and TSV; JSON and JSON Lines
tables.py  workbooks.py                     Parquet and Arrow; Excel
opening.py  disguises.py                    packed files; files that are not what their ending says
cells.py                                    a cell as a name, words, a number, a dialogue
presets.py  drafts.py                       the shapes that people's files have; what a row says
"""
