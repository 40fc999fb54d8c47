"""The benchmarks, a file each: how its rows become items, what is asked, and where its pictures lie."""
