"""How quickly agents adapt: the protocol, its statistics, films, the report and the benchmark."""
