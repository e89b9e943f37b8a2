/**
 * What a hand may ask of the replicator, over HTTP: parse, call one function of the port, render. Mounted behind the
 * admin listener's token. Answers are GitLab's words: its REST fields in `/status`, its GraphQL fields elsewhere.
 */
import { type Context, Hono } from 'hono'
import type { Logger } from '../log.ts'
import {
  absoluteFolder,
  BadParameter,
  flag,
  type Parameter,
  pageSize,
  readParameters,
  requireRepositoryName,
  syncState,
  tag,
  words,
} from './parameters.ts'
import { ControlRefused, type ReplicationControl } from './replication-control.ts'
import {
  aheadRow,
  brakeRow,
  explanationRow,
  failingTagRow,
  hiddenRow,
  lossRow,
  repositoryRow,
} from './rows.ts'
import { createStreamed } from './streamed.ts'

const FILTER = { state: syncState, needsattention: flag, path: words }
const DRY_RUN = { dryrun: flag }
const PAGE_SIZE = 100
const EXPLAIN = '/explain'

export function createReplicationApi(control: ReplicationControl, options: { readonly log: Logger }): Hono {
  const streamed = createStreamed(options)
  const app = new Hono()

  app.onError(function refuse(error, context) {
    if (error instanceof BadParameter) return context.json({ error: error.message }, 400)
    if (error instanceof ControlRefused) return context.json({ error: error.message }, 409)
    throw error // The admin listener's own.
  })

  app.get('/status', async (context) => {
    read(context, {})
    return context.json(await control.status())
  })

  app.get('/repositories', async (context) => {
    const {
      needsattention: needsAttention,
      limit = PAGE_SIZE,
      ...given
    } = read(context, {
      ...FILTER,
      after: words,
      limit: pageSize,
    })
    const rows = await control.list({ ...given, needsAttention, limit })
    const next = rows.length === limit ? rows.at(-1)?.path : undefined
    return context.json({ repositories: rows.map(repositoryRow), next: next ?? null })
  })
  app.get('/repositories/:path{.+}', async (context) => {
    const path = context.req.param('path')
    // A repository may be called `team/explain`: only with a tag is it a question.
    if (context.req.query('tag') !== undefined && path.endsWith(EXPLAIN)) {
      return await explain(context, path.slice(0, -EXPLAIN.length))
    }
    read(context, {})
    const name = requireRepositoryName(path)
    const [row, failing] = await Promise.all([control.find(name), control.failingTags(name)])
    if (!row) return context.json({ error: `${name} is not tracked` }, 404)
    return context.json({ ...repositoryRow(row), failingTags: failing.map(failingTagRow) })
  })

  async function explain(context: Context, path: string): Promise<Response> {
    const { tag: asked } = read(context, { tag })
    if (asked === undefined) throw new BadParameter(`tag: expected ${tag.expected}`)
    return context.json(explanationRow(await control.explain(requireRepositoryName(path), asked)))
  }

  for (const action of ['resync', 'reverify'] as const) {
    app.post(`/repositories/${action}`, async (context) => {
      const { all = false, dryrun = false, ...given } = read(context, { ...FILTER, all: flag, ...DRY_RUN })
      const { needsattention: needsAttention, state, path } = given
      if (all !== Object.values(given).every((value) => value === undefined)) {
        throw new BadParameter('expected state, needsattention or path, or else all=true')
      }
      const repositories = await control[action]({ state, path, needsAttention }, { dryRun: dryrun })
      return context.json({ repositories, dryRun: dryrun })
    })
    app.post(`/repositories/:path{.+}/${action}`, async (context) => {
      const { dryrun = false } = read(context, DRY_RUN)
      const name = requireRepositoryName(context.req.param('path'))
      const repositories = await control[action](name, { dryRun: dryrun })
      if (repositories === 0) return context.json({ error: `${name} is not tracked` }, 404)
      return context.json({ repositories, dryRun: dryrun })
    })
  }

  app.post('/pause', async (context) => {
    read(context, {})
    await control.pause()
    return context.json({ paused: true })
  })
  app.post('/resume', async (context) => {
    read(context, {})
    await control.resume()
    return context.json({ paused: false })
  })
  app.get('/brake', async (context) => {
    read(context, {})
    return context.json(brakeRow(await control.brake()))
  })
  app.post('/brake/release', async (context) => {
    const { dryrun = false } = read(context, DRY_RUN)
    // Asked before, since a released brake has forgotten what it held back.
    const released = brakeRow(await control.brake())
    if (!dryrun) await control.releaseBrake()
    return context.json({ ...released, dryRun: dryrun })
  })

  app.get('/hidden', (context) => {
    const { path } = read(context, { path: words })
    return streamed(context, undefined, async ({ onItem, signal }) => {
      let entries = 0
      for await (const entry of control.hidden(path)) {
        signal.throwIfAborted()
        await onItem(hiddenRow(entry))
        entries++
      }
      return { entries }
    })
  })
  app.post('/hidden/:id{.+}/restore', async (context) => {
    read(context, {})
    const restored = await control.restore(context.req.param('id'))
    return restored ? context.json({ restored }) : context.json({ error: 'no such entry' }, 404)
  })

  app.get('/ahead', (context) => {
    read(context, {})
    return streamed(context, 'ahead', ({ onItem, ...long }) =>
      control.ahead({ ...long, onItem: (item) => onItem(aheadRow(item)) }),
    )
  })
  app.get('/export-check', (context) => {
    read(context, {})
    return streamed(context, 'export-check', ({ onItem, ...long }) =>
      control.exportCheck({ ...long, onItem: (item) => onItem(lossRow(item)) }),
    )
  })
  app.get('/plan', (context) => {
    read(context, {})
    return streamed(context, 'plan', ({ signal, onProgress }) => control.plan({ signal, onProgress }))
  })
  app.post('/adopt', (context) => {
    const { folder, dryrun = false } = read(context, { folder: absoluteFolder, ...DRY_RUN })
    if (folder === undefined) throw new BadParameter(`folder: expected ${absoluteFolder.expected}`)
    return streamed(context, 'adopt', ({ signal, onProgress }) =>
      control.adopt(folder, { signal, onProgress, dryRun: dryrun }),
    )
  })
  app.post('/rebuild', (context) => {
    const { dryrun = false } = read(context, DRY_RUN)
    return streamed(context, 'rebuild', ({ signal, onProgress }) =>
      control.rebuild({ signal, onProgress, dryRun: dryrun }),
    )
  })
  return app
}

function read<S extends Readonly<Record<string, Parameter<unknown>>>>(context: Context, table: S) {
  return readParameters(new URL(context.req.url).searchParams, table)
}
