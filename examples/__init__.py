"""Programs that use the API, to read and to run; the tests run them too."""
