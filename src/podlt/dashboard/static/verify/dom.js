// Elements of a page. Whatever a bundle says becomes text, never markup.
podltVerify.define("dom", function () {
  "use strict";

  // An element with attributes (functions are listeners) and children (texts and elements).
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(key, value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
    return made;
  }

  // A text without characters that a reader would not see, or that turn others around.
  function shown(value) {
    return String(value).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\u2028\u2029]/gu, "\ufffd");
  }

  const fill = (box, ...children) => box.replaceChildren(...children.flat(Infinity));

  return { element, fill, shown };
});
