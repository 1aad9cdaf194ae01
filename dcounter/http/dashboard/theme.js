/* Before anything is drawn: the theme that was chosen in this browser, if one was. */
document.documentElement.dataset.theme = localStorage.getItem("dcounter-theme") ?? "auto";
