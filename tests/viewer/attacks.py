"""Texts that would do something if a page took them for more than text."""

ATTACKS = [
    f"{before}{payload}{after}"
    for payload in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>",
                    "javascript:alert(1)", "</script><script>alert(1)</script>", "<iframe srcdoc='<script>1</script>'>",
                    "{{constructor.constructor('alert(1)')()}}", "${alert(1)}", "<a href='data:text/html,1'>x</a>",
                    "<math><mi//xlink:href='data:x,1'>", "<!--<img src='--><img src=x onerror=1>'>", "\u2028alert(1)",
                    "<body onpageshow=alert(1)>", "&#60;script&#62;", "%3Cscript%3E", "\\u003cscript\\u003e")
    for before, after in (("", ""), ('"', '"'), ("'>", "<"), ("]]>", "<![CDATA["), ("A\n", "\r\nX: y"),
                          ("\ufeff", "\0"), ("</title>", "<title>"))
]  # fmt: skip
