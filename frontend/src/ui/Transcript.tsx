/** The conversation: a virtual list that holds its place when read and follows its end when there. */
import { useVirtualizer, type Range, defaultRangeExtractor } from "@tanstack/react-virtual";
import { ArrowDown, LoaderCircle } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useApp, useClient, useHarnessTitle } from "../app/context";
import { navigate, sessionHref } from "../app/route";
import type { SessionModel } from "../state/model";
import { buildRows, finishedRows, toolResults, type Row, type ToolResults } from "../state/rows";
import { ErrorBoundary, MessageFailed } from "./ErrorBoundary";
import { MessageRow } from "./MessageRow";
import { ErrorNote } from "./OtherPart";
import { PendingRow } from "./PendingRow";

/** Short conversations are in the page as a whole, so that the browser's own search finds everything. */
const WHOLE_UP_TO = 40;
const NEAR_END_PX = 48;
const LOAD_OLDER_PX = 600;

function estimate(row: Row | undefined): number {
  if (row?.kind !== "message") return 80;
  let height = 28;
  for (const part of row.message.parts) {
    if (part.type === "text") height += 24 * Math.max(1, Math.ceil((part.text).length / 90));
    else if (part.type === "tool_call") height += 160;
    else height += 36;
  }
  return height;
}

function useRows(model: SessionModel, sessionId: string): readonly Row[] {
  const pending = useApp((state) => state.pending);
  const finished = useMemo(() => finishedRows(model.messages), [model.messages]);
  return useMemo(() => {
    const own = pending.filter((prompt) => prompt.sessionId === sessionId);
    return buildRows(finished, { streaming: model.streaming, lastError: model.lastError, turnId: model.turnId }, own);
  }, [finished, model.streaming, model.lastError, model.turnId, pending, sessionId]);
}

function useOlder(model: SessionModel, sessionId: string) {
  const client = useClient();
  const [loading, setLoading] = useState(false);
  const load = useCallback(() => {
    if (loading || !model.hasOlder) return;
    setLoading(true);
    void client.loadOlder(sessionId).finally(() => setLoading(false));
  }, [client, loading, model.hasOlder, sessionId]);
  return { loading, load };
}

function useFork(model: SessionModel, sessionId: string) {
  const client = useClient();
  const able = model.capabilities.fork_at_message;
  return useMemo(() => {
    if (!able) return undefined;
    return (messageId: string) => {
      void client.fork(sessionId, messageId).then((session) => {
        if (session) navigate(sessionHref(session.id));
      });
    };
  }, [able, client, sessionId]);
}

function useTranscriptVirtualizer(rows: readonly Row[], scroller: React.RefObject<HTMLDivElement | null>) {
  const whole = rows.length <= WHOLE_UP_TO;
  return useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => estimate(rows[index]),
    getItemKey: (index) => rows[index]?.key ?? index,
    rangeExtractor: (range: Range) =>
      whole ? Array.from({ length: range.count }, (_, index) => index) : defaultRangeExtractor(range),
    overscan: 6,
    paddingStart: 24,
    paddingEnd: 24,
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: NEAR_END_PX,
  });
}

/** What appears below the transcript (a plan, a queue) takes its room: who read its end goes on seeing it. */
function useEndKept(scroller: React.RefObject<HTMLDivElement | null>, toEnd: () => void) {
  useEffect(() => {
    const element = scroller.current;
    if (!element || typeof ResizeObserver === "undefined") return;
    let height = element.clientHeight;
    const observer = new ResizeObserver(() => {
      const lost = height - element.clientHeight;
      height = element.clientHeight;
      const below = element.scrollHeight - element.scrollTop - element.clientHeight;
      if (lost > 0 && below - lost < NEAR_END_PX) toEnd();
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [scroller, toEnd]);
}

interface RowViewProps {
  readonly row: Row;
  readonly model: SessionModel;
  readonly results: ToolResults;
  readonly onFork: ((messageId: string) => void) | undefined;
}

function RowView({ row, model, results, onFork }: RowViewProps) {
  if (row.kind === "error") return <ErrorNote code={row.error.code} message={row.error.message} details={row.error.details} />;
  if (row.kind === "note") return <p className="row-note">{row.text}</p>;
  if (row.kind === "pending") return <PendingRow prompt={row.prompt} />;
  const { message, streaming, continues } = row;
  return (
    <ErrorBoundary fallback={(error) => <MessageFailed messageId={message.id} error={error} />}>
      <MessageRow
        message={message}
        streaming={streaming}
        continues={continues}
        results={results}
        tools={model.tools}
        durations={model.durations}
        turnRuns={model.turnId !== undefined}
        onFork={onFork}
      />
    </ErrorBoundary>
  );
}

export function Transcript({ model, sessionId }: { model: SessionModel; sessionId: string }) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useRows(model, sessionId);
  const results = useMemo(() => toolResults(model.messages), [model.messages]);
  const { loading, load } = useOlder(model, sessionId);
  const onFork = useFork(model, sessionId);
  const [atEnd, setAtEnd] = useState(true);
  const virtualizer = useTranscriptVirtualizer(rows, scroller);
  const pendingCount = rows.filter((row) => row.kind === "pending").length;

  const toEnd = useCallback(() => virtualizer.scrollToEnd(), [virtualizer]);
  useLayoutEffect(toEnd, [toEnd]);
  useEndKept(scroller, toEnd);
  // Whoever sends something wants to see it, wherever they were reading.
  useEffect(() => {
    if (pendingCount > 0) virtualizer.scrollToEnd();
  }, [virtualizer, pendingCount]);

  const onScroll = () => {
    const element = scroller.current;
    if (!element) return;
    setAtEnd(element.scrollHeight - element.scrollTop - element.clientHeight < 120);
    if (element.scrollTop < LOAD_OLDER_PX) load();
  };

  return (
    <div className="transcript-frame">
      {loading && (
        <p className="older" role="status">
          <LoaderCircle size={14} className="spin" aria-hidden /> Loading older messages
        </p>
      )}
      <div
        ref={scroller}
        className="transcript"
        data-testid="transcript"
        role="log"
        aria-live="off"
        aria-label="Conversation"
        tabIndex={0}
        onScroll={onScroll}
      >
        {rows.length === 0 && <EmptyTranscript model={model} />}
        <div className="transcript-space" style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map((item) => {
            const row = rows[item.index];
            return (
              <div
                key={item.key}
                ref={virtualizer.measureElement}
                data-index={item.index}
                className="transcript-row"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                {row && <RowView row={row} model={model} results={results} onFork={onFork} />}
              </div>
            );
          })}
        </div>
      </div>
      {!atEnd && (
        <button type="button" className="jump" aria-label="Jump to the end" onClick={() => virtualizer.scrollToEnd()}>
          <ArrowDown size={16} aria-hidden />
        </button>
      )}
    </div>
  );
}

function EmptyTranscript({ model }: { model: SessionModel }) {
  const title = useHarnessTitle(model.info.harness);
  return (
    <div className="empty">
      <h2>{title}</h2>
      <p>
        works in <code>{model.info.workspace}</code> and sees nothing else. What should it do?
      </p>
    </div>
  );
}
