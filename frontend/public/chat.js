// The open chat: loads it, shows it, keeps it current, and sends messages.

import { answered, isAnsweredElsewhere, lockAnswer } from "./conversation/answer-lock.js";
import { Conversation } from "./conversation/conversation.js";
import { createFollower } from "./conversation/follow.js";
import { greeting } from "./conversation/greeting.js";
import { mark } from "./conversation/marks.js";
import { firstWordsOf, titleOf } from "./thread-list.js";

const PAGE_SIZE = 20;
const MAX_TOOL_CALLS = 5; // calls in a row after one message
const STORED_AFTER_MS = 1000; // after a stop in another tab, the server needs a moment to store the answer

const $ = (id) => document.getElementById(id);
const scroll = $("scroll");

export class Chat {
  #follower = createFollower(scroll, $("to-newest"));
  #answering = new Set(); // Conversations with a running stream. Opening another chat does not stop a stream.
  current = null; // the open Conversation

  /** `page`: what the chat needs: `chatkit()`, `report(error, show)`, `composer()`, `threads()`, `suggestions()`. */
  constructor(page) {
    this.page = page;
    this.host = {
      getAttachment: (id) => page.chatkit().getAttachment(id),
      report: page.report,
      answerAgain: (conversation) => this.#answerAgain(conversation),
      act: (conversation, action, itemId) => this.#act(conversation, action, itemId),
      rate: (conversation, itemId, kind) => this.#rate(conversation, itemId, kind),
    };
  }

  // Opening

  /** Opens the chat, or a new one if `threadId` is null. */
  open(threadId) {
    if (this.current && threadId === this.current.threadId) return;
    $("chat-alert").textContent = "";
    const known = [...this.#answering].find((conversation) => threadId && conversation.threadId === threadId);
    this.#show(known ?? this.#newConversation(threadId));
    if (!threadId) this.#greet();
    if (threadId && !known) this.#load(this.current);
  }

  #newConversation(threadId) {
    const conversation = new Conversation({ threadId, host: this.host });
    conversation.earlierButton.onclick = () => this.#loadEarlier(conversation);
    return conversation;
  }

  /** Forgets everything: the user has signed out. */
  close() {
    this.current = null;
    this.#answering.clear();
    scroll.replaceChildren();
    $("thread-title").textContent = $("chat-alert").textContent = "";
  }

  #greet() {
    const send = (text) => {
      this.page.composer().focus(); // the suggestion disappears
      this.send({ text, attachments: [] });
    };
    this.current.element.prepend(greeting(this.page.suggestions(), send));
  }

  #show(conversation) {
    this.current = conversation;
    this.#follower.watch(conversation.element);
    this.#renderTitle();
    this.page.composer().writeTo(conversation);
  }

  async #load(conversation) {
    const { threadId } = conversation;
    conversation.loading = true;
    conversation.loadFailed = false;
    conversation.alert("");
    conversation.progress.textContent = "Loading…";
    this.page.composer().render();
    try {
      const thread = await this.page.chatkit().getThread(threadId);
      conversation.title = titleOf(thread);
      conversation.answeredElsewhere = await isAnsweredElsewhere(threadId);
      // getThread returns the first items. For a longer chat, show the last ones.
      if (thread.items.has_more) await this.#prependPage(conversation);
      else conversation.prepend(thread.items.data);
    } catch (error) {
      conversation.loadFailed = true;
      this.page.report(error, (text) => {
        if (conversation !== this.current) return;
        if (error.status !== 404) {
          const again = () => this.#load(conversation);
          return conversation.alert(text, { again, seconds: error.seconds });
        }
        this.startNew();
        $("chat-alert").textContent = "This chat does not exist, or is not yours.";
      });
    }
    conversation.loading = false;
    conversation.progress.textContent = "";
    if (conversation.answeredElsewhere) this.#waitForOtherTab(conversation);
    if (conversation !== this.current) return;
    this.#renderTitle();
    this.page.composer().render();
  }

  async #waitForOtherTab(conversation) {
    conversation.progress.textContent = "Another tab receives the answer…";
    await answered(conversation.threadId);
    await new Promise((resolve) => setTimeout(resolve, STORED_AFTER_MS));
    conversation.answeredElsewhere = false;
    if (!conversation.request) conversation.progress.textContent = "";
    await this.page.threads().refresh(); // the other tab may have given the chat its title
    await this.#refresh(conversation);
    conversation.settle();
  }

  startNew() {
    history.replaceState(null, "", "#/");
    this.current = null;
    this.open(null);
  }

  async #loadEarlier(conversation) {
    if (conversation.loading) return;
    conversation.loading = true;
    try {
      await this.#prependPage(conversation);
      const hidden = conversation === this.current && conversation.earlierButton.hidden;
      if (hidden) scroll.focus(); // the hidden button had the focus
    } catch (error) {
      this.page.report(error, (text) => conversation.alert(text));
    }
    conversation.loading = false;
  }

  async #prependPage(conversation) {
    let page;
    do {
      page = await this.#pageOf(conversation, page?.after ?? conversation.cursor);
      this.#follower.hold(() => conversation.prepend(page.data.reverse()));
    } while (page.has_more && page.after && !page.data.length); // hidden items can leave a page empty
    conversation.cursor = page.after;
    conversation.earlierButton.hidden = !page.has_more;
  }

  #pageOf({ threadId }, after) {
    return this.page.chatkit().listItems(threadId, { order: "desc", limit: PAGE_SIZE, after });
  }

  // Keeping current

  /** Shows what another tab or device has added. Call it when the user looks at this tab again. */
  async refresh() {
    const conversation = this.current;
    if (conversation?.loadFailed) return this.#load(conversation);
    if (conversation?.threadId && !conversation.loading) await this.#refresh(conversation);
  }

  async #refresh(conversation) {
    const page = await this.#pageOf(conversation).catch(() => null); // after an error the chat stays as it is
    if (!page || conversation.request || conversation !== this.current) return;
    const isGone = !page.data.length && !page.has_more && conversation.lastMessageId;
    if (isGone) {
      this.startNew();
      $("chat-alert").textContent = "This chat has been deleted.";
    } else if (conversation.refresh(page.data.reverse())) {
      conversation.cursor = page.after;
      conversation.earlierButton.hidden = !page.has_more;
    }
    const thread = this.page.threads().find(conversation.threadId);
    if (thread) this.retitle(thread);
  }

  /** Shows the thread's new title if it is open. */
  retitle(thread) {
    if (this.current?.threadId !== thread.id) return;
    this.current.title = titleOf(thread);
    this.#renderTitle();
  }

  // Sending

  send(draft, conversation = this.current) {
    const { threadId } = conversation;
    return this.#stream(conversation, { draft }, (chatkit, signal) =>
      threadId ? chatkit.addUserMessage(threadId, draft, signal) : chatkit.createThread(draft, signal),
    );
  }

  #answerAgain(conversation) {
    const { threadId, lastMessageId } = conversation;
    return this.#stream(conversation, { replaces: true }, (chatkit, signal) =>
      chatkit.answerAgain(threadId, lastMessageId, signal),
    );
  }

  async #act(conversation, { handler, streaming, ...action }, itemId) {
    if (conversation.request) return conversation.note("Wait until the answer is complete.");
    if (handler === "client") return conversation.note("This page cannot do that.");
    const { threadId } = conversation;
    if (streaming) return this.#stream(conversation, {}, (chatkit, signal) => chatkit.act(threadId, itemId, action, signal));
    try {
      const item = await this.page.chatkit().actSilently(threadId, itemId, action);
      if (item) conversation.apply({ type: "thread.item.replaced", item });
    } catch (error) {
      this.page.report(error, (text) => conversation.alert(text));
    }
  }

  async #rate(conversation, itemId, kind) {
    try {
      await this.page.chatkit().rate(conversation.threadId, itemId, kind);
      mark(conversation.threadId, "thumbs", itemId, kind);
      return true;
    } catch (error) {
      this.page.report(error, (text) => conversation.note(text, "danger"));
      return false;
    }
  }

  async #stream(conversation, { draft, replaces }, ask, calls = 0) {
    if (conversation.request) return;
    $("chat-alert").textContent = "";
    const signal = conversation.begin({ draft, replaces });
    const lock = { release: conversation.threadId ? lockAnswer(conversation.threadId) : null };
    this.#answering.add(conversation);
    this.#follower.follow();
    this.page.composer().render();

    let failure;
    try {
      for await (const event of ask(this.page.chatkit(), signal)) this.#take(conversation, event, lock);
    } catch (error) {
      failure = error;
    }

    const unsent = conversation.end({ stopped: signal.aborted, failed: Boolean(failure) });
    lock.release?.();
    if (!this.#answering.delete(conversation)) return; // the user has signed out meanwhile
    const call = failure ? null : conversation.pendingCall;
    if (call && calls < MAX_TOOL_CALLS) return this.#refuseCall(conversation, call, calls + 1);
    if (unsent && conversation === this.current) this.page.composer().restore(unsent);
    if (failure && !signal.aborted) this.#explain(conversation, failure, unsent);
    if (!unsent) this.#name(conversation);
    conversation.settle();
    this.page.composer().render();
  }

  // Without a model, the server makes no title, and the list would show a date. So use the message's first words.
  async #name({ threadId, firstMessage }) {
    const thread = this.page.threads().find(threadId); // the list may not have an older chat, which may have a title
    const title = firstMessage && firstWordsOf(firstMessage);
    if (!thread || thread.title || !title) return;
    const named = await this.page.chatkit().renameThread(threadId, title).catch(() => null); // the date stays
    if (!named) return;
    this.page.threads().keep(named);
    this.retitle(named);
  }

  #explain(conversation, failure, unsent) {
    const again = unsent ? () => this.page.composer().submit() : () => this.#answerAgain(conversation);
    const text = unsent ? "Your message was not sent. " : "";
    this.page.report(failure, (sentence) => conversation.alert(text + sentence, { again, seconds: failure.seconds }));
  }

  // The page has no tools. Answer the call with an error, so that the assistant can go on without the tool.
  #refuseCall(conversation, call, calls) {
    const output = { error: `This page has no tool with the name ${call.name}.` };
    const { threadId } = conversation;
    conversation.apply({ type: "thread.item.done", item: { ...call, status: "completed" } });
    return this.#stream(conversation, {}, (chatkit, signal) => chatkit.addToolOutput(threadId, output, signal), calls);
  }

  #take(conversation, event, lock) {
    if (event.thread) conversation.threadId = event.thread.id;
    lock.release ??= conversation.threadId && lockAnswer(conversation.threadId);
    conversation.apply(event);
    if (event.thread) {
      const { firstMessage } = conversation;
      const thread = { ...event.thread, firstWords: firstMessage && firstWordsOf(firstMessage) };
      conversation.title = titleOf(thread);
      this.page.threads().keep(thread);
    }
    if (conversation !== this.current) return;
    if (event.type === "thread.created") history.replaceState(null, "", `#/${event.thread.id}`);
    if (event.thread) this.#renderTitle();
    if (event.type === "stream_options") this.page.composer().render();
  }

  #renderTitle() {
    const title = this.current.title || (this.current.threadId ? "Chat" : "New chat");
    $("thread-title").textContent = title;
    document.title = `${title} – Support`;
    this.page.threads().mark(this.current.threadId);
  }
}
