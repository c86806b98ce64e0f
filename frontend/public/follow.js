// Keeps a scrolling element at its end while its content grows, and leaves a reader alone who scrolled up.

const NEAR_END_PX = 80;

export function createFollower(scroll) {
  let following = true;
  let lastTop = 0;

  const toEnd = () => following && (scroll.scrollTop = scroll.scrollHeight);
  // The content grows, and the view shrinks when a phone shows its keyboard.
  const sizes = new ResizeObserver(toEnd);

  scroll.addEventListener("scroll", () => {
    const fromEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
    // Only a way up is the reader's: the distance to the end also grows by itself, with the content.
    if (fromEnd < NEAR_END_PX) following = true;
    else if (scroll.scrollTop < lastTop) following = false;
    lastTop = scroll.scrollTop;
  });

  return {
    /** From now on `content`, alone in the element, is what is followed. */
    watch(content) {
      scroll.replaceChildren(content);
      sizes.disconnect();
      sizes.observe(scroll);
      sizes.observe(content);
      this.follow();
    },
    follow() {
      following = true;
      toEnd();
    },
    /** Lets `change` add content on top; what a reader up there sees stays where it is. */
    hold(change) {
      const belowTop = scroll.scrollHeight - scroll.scrollTop;
      change();
      if (!following) scroll.scrollTop = scroll.scrollHeight - belowTop;
    },
  };
}
