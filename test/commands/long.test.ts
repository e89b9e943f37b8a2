/** The commands that take long: what they list, how far they say they have come, and how they end. */
import type { ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import { runCommand } from '../../src/command.ts'
import { createProgressDisplay, describeProgress } from '../../src/commands/progress.ts'
import { ControlRefused, type LongOptions } from '../../src/status/replication-control.ts'
import { SMALLEST } from '../config/given.ts'
import { digest, name, tag } from '../status/fake-control.ts'
import { listenHttp } from '../support/http-listener.ts'
import { tempFolder } from '../support/temp.ts'
import { runningSite } from './running-site.ts'

describe('plan', () => {
  it('prints the totals in words, sizes as sizes', async () => {
    const plan = async () => ({ repositories: 1234, bytes: 5 * 2 ** 40, bytesHere: 512, time: '3 d 4 h' })
    await using site = await runningSite({ plan })

    expect(await site.run(['plan'])).toEqual({
      status: 0,
      out: 'repositories: 1,234\nbytes: 5.0 TiB\nbytes here: 512 B\ntime: 3 d 4 h\n',
      err: '',
    })
  })

  it('shows how far it is: in lines of a log, or in one line of a terminal that it takes away again', async () => {
    const plan = async ({ onProgress }: LongOptions) => {
      onProgress({ phase: 'reading the inventory', done: 5, total: 10, unit: 'repositories' })
      return { repositories: 10 }
    }
    await using site = await runningSite({ plan })
    const inLog = await site.run(['plan'])
    const onTerminal = await site.run(['plan'], { out: true, err: true })

    expect(inLog.err).toBe('reading the inventory: 5 of 10 repositories (50 %)\n')
    expect(onTerminal.err).toBe('\r\u001b[2Kreading the inventory: 5 of 10 repositories (50 %)\r\u001b[2K')
    expect(onTerminal.out).toBe('repositories: 10\n')
  })

  it('passes on why there is none', async () => {
    const plan = () => Promise.reject(new ControlRefused('the primary is away'))
    await using site = await runningSite({ plan })

    expect(await site.run(['plan'])).toEqual({ status: 1, out: '', err: 'the primary is away\n' })
  })
})

describe('ahead', () => {
  it('lists what the primary does not have', async () => {
    await using site = await runningSite({
      ahead: async ({ onItem }) => {
        const app = name('team/app')
        await onItem({ repository: app, tag: tag('v2'), digest: digest('a') })
        await onItem({ repository: app, tag: undefined, digest: digest('b') })
        return { tags: 2 }
      },
    })

    expect(await site.run(['ahead'])).toEqual({
      status: 0,
      out: `team/app:v2 ${digest('a')}
team/app ${digest('b')}
tags: 2
`,
      err: '',
    })
  })
})

describe('export-check', () => {
  it('ends with status 0 when nothing would be lost', async () => {
    await using site = await runningSite()

    expect(await site.run(['export-check'])).toEqual({
      status: 0,
      out: 'tags: 30\nall repositories asked: yes\nNothing would be lost.\n',
      err: '',
    })
  })

  it('does not vouch for what it could not ask about', async () => {
    await using site = await runningSite({ exportCheck: async () => ({ allRepositoriesAsked: false }) })
    const { status, out } = await site.run(['export-check'])

    expect(status).toBe(1)
    expect(out).not.toContain('Nothing would be lost')
  })

  it('lists what would be and what nobody can vouch for, and ends with status 1', async () => {
    await using site = await runningSite({
      exportCheck: async ({ onItem }) => {
        const app = { repository: name('team/app'), digestHere: digest('a'), digestThere: digest('b') }
        const missing = { blobs: 2, bytes: 1536 }
        await onItem({ ...app, tag: tag('v1'), kind: 'absent', missing: undefined })
        await onItem({ ...app, tag: tag('v2'), kind: 'older', missing })
        await onItem({ ...app, tag: tag('v3'), kind: 'older', missing: undefined })
        await onItem({ ...app, tag: tag('v4'), kind: 'incomplete', missing })
        await onItem({ ...app, tag: tag('v5'), kind: 'unchecked', missing: undefined })
        await onItem({ ...app, tag: undefined, kind: 'unlisted', missing: undefined })
        return { tags: 30, allRepositoriesAsked: false, losses: { absent: 1, older: 2 }, missing }
      },
    })

    expect(await site.run(['export-check'])).toEqual({
      status: 1,
      out: `team/app:v1: absent: not here
team/app:v2: older: ${digest('a')} here, ${digest('b')} there; 2 blobs (1.5 KiB) are missing
team/app:v3: older: ${digest('a')} here, ${digest('b')} there
team/app:v4: incomplete: 2 blobs (1.5 KiB) are missing
team/app:v5: unchecked: whole here, but the primary could not say whether it is the same there
team/app: unlisted: the primary could not say which tags it has
tags: 30
all repositories asked: no
losses: absent 1, older 2
missing: blobs 2, bytes 1.5 KiB
What is listed above would be lost.
What the primary has that was never heard of here would be lost, too.
`,
      err: '',
    })
  })

  it('never says that nothing would be lost when it could not look', async () => {
    await using site = await runningSite({ exportCheck: () => Promise.reject(new Error('EIO')) })

    expect(await site.run(['export-check'])).toEqual({
      status: 1,
      out: '',
      err: 'internal error: see the log\n',
    })
  })
})

describe('gc, adopt and rebuild', () => {
  it('print lists a line each, and durations as such', async () => {
    const skippedBlobs = [{ digest: digest('a'), reason: 'damaged' }]
    await using site = await runningSite({
      adopt: async () => ({ found: { blobs: 2, bytes: 512 }, skippedBlobs, others: [], durationMs: 345 }),
    })

    expect((await site.run(['adopt', '/srv'])).out).toBe(
      `found: blobs 2, bytes 512 B
skipped blobs:\n  digest ${digest('a')}, reason damaged
others: none
duration: 345 ms
`,
    )
  })

  it('print what they did', async () => {
    await using site = await runningSite()

    expect((await site.run(['gc'])).out).toBe('removed blobs: 1,234\nremoved blob bytes: 1.5 KiB\n')
    expect((await site.run(['adopt', '/srv/old one'])).out).toBe('blobs: 5\nbytes adopted: 1.5 KiB\n')
    expect((await site.run(['rebuild'])).out).toBe('repositories: 2\n')
    expect(site.control.asked).toEqual([
      ['adopt', '/srv/old one', { dryRun: false }],
      ['rebuild', { dryRun: false }],
    ])
  })

  it('only count with --dry-run, and say so first', async () => {
    await using site = await runningSite()

    expect((await site.run(['adopt', '/srv', '--dry-run'])).out).toMatch(
      /^Nothing was taken over; .*\nblobs: 5/,
    )
    expect((await site.run(['rebuild', '-n'])).out).toMatch(/^Nothing was forgotten; .*\nrepositories: 2/)
    expect(site.control.asked).toEqual([
      ['adopt', '/srv', { dryRun: true }],
      ['rebuild', { dryRun: true }],
    ])
  })

  it('name a folder as it is from where the command stands', async () => {
    await using site = await runningSite()
    await site.run(['adopt', 'old'])

    expect(site.control.asked).toEqual([['adopt', `${process.cwd()}/old`, { dryRun: false }]])
  })
})

describe('an answer in lines', () => {
  async function answered(answer: (response: ServerResponse) => void) {
    await using listener = await listenHttp((_, response) => answer(response))
    await using folder = await tempFolder('commands')
    const config = `${SMALLEST}\nhttp: { admin: { addr: "127.0.0.1:${listener.port}" } }`
    const said = { out: '', err: '' }
    const output = {
      out: (text: string) => {
        said.out += text
      },
      err: (text: string) => {
        said.err += text
      },
    }
    const status = await runCommand(['plan', '-c', await folder.write('config.yml', config)], output)
    return { status, ...said }
  }

  it.each([
    [
      'that ends without a last line',
      (response: ServerResponse) => response.end('{"progress":{"phase":"x","done":1,"unit":"tags"}}\n'),
      /^x: 1 tags\nthe answer was cut: the running process has ended, or was restarted\n$/,
    ],
    [
      'that is cut in the middle',
      (response: ServerResponse) => {
        response.write('{"result":')
        setImmediate(() => response.destroy())
      },
      /^cannot ask http\.admin\.addr 127\.0\.0\.1:\d+: aborted\n$/,
    ],
    [
      'from somebody else',
      (response: ServerResponse) => response.end('<html>\n</html>'),
      /^the running process answered 200: <html>\n$/,
    ],
    [
      'that refuses',
      (response: ServerResponse) => response.writeHead(409).end('{"error":"plan is already running"}'),
      /^the running process answered 409: plan is already running\n$/,
    ],
    [
      'that wants another token',
      (response: ServerResponse) => response.writeHead(401).end('{}'),
      /^the running process did not accept http\.admin\.token/,
    ],
  ])('%s is no answer', async (_, answer, words) => {
    const { status, out, err } = await answered(answer)

    expect(status).toBe(1)
    expect(out).toBe('')
    expect(err).toMatch(words)
  })

  it('is read whole, however it is cut into packets', async () => {
    const bytes = Buffer.from('{"progress":{"phase":"é","done":1,"unit":"tags"}}\n{"result":{"tags":7}}')
    const { status, out, err } = await answered((response) => {
      let next = 0
      const send = () => {
        response.write(bytes.subarray(next, next + 1))
        next++
        if (next < bytes.length) setImmediate(send)
        else response.end()
      }
      send()
    })

    expect({ status, out, err }).toEqual({ status: 0, out: 'tags: 7\n', err: 'é: 1 tags\n' })
  })
})

describe('progress', () => {
  const progress = { phase: 'copying', done: 300, total: 1000, unit: 'repositories' }

  it.each([
    ['at first', progress, 0, 0, 'copying: 300 of 1,000 repositories (30 %)'],
    [
      'after a while',
      progress,
      100,
      10_000,
      'copying: 300 of 1,000 repositories (30 %), 10/s, 1 min 10 s left',
    ],
    [
      'at the end',
      { ...progress, done: 1000 },
      100,
      1e4,
      'copying: 1,000 of 1,000 repositories (100 %), 10/s',
    ],
    ['almost at the end', { ...progress, done: 999 }, 0, 0, 'copying: 999 of 1,000 repositories (99 %)'],
    ['without an end', { ...progress, total: undefined }, 25, 1e4, 'copying: 300 repositories, 2.5/s'],
    [
      'of bytes',
      { phase: 'adopting', done: 2 ** 30, total: 3 * 2 ** 30, unit: 'bytes' },
      2 ** 29,
      60_000,
      'adopting: 1.0 GiB of 3.0 GiB (33 %), 8.5 MiB/s, 4 min left',
    ],
    ['of nothing', { ...progress, done: 0, total: 0 }, 0, 5000, 'copying: 0 of 0 repositories (100 %)'],
    [
      'past the end',
      { ...progress, done: 1100 },
      100,
      1e4,
      'copying: 1,100 of 1,000 repositories (100 %), 10/s',
    ],
  ])('%s is said as it is', (_, given, fetched, elapsedMs, text) => {
    expect(describeProgress(given, fetched, elapsedMs)).toBe(text)
  })

  it('goes into a log every 10 s, and whenever something else begins', () => {
    let nowMs = 0
    const lines: string[] = []
    const output = { out: () => undefined, err: (text: string) => void lines.push(text) }
    const display = createProgressDisplay(output, () => nowMs)
    for (; nowMs < 25_000; nowMs += 250) display.show({ ...progress, done: nowMs / 250 })
    display.show({ ...progress, phase: 'verifying', done: 1 })
    display.clear()

    expect(lines).toEqual([
      'copying: 0 of 1,000 repositories (0 %)\n',
      'copying: 40 of 1,000 repositories (4 %), 4/s, 4 min left\n',
      'copying: 80 of 1,000 repositories (8 %), 4/s, 3 min 50 s left\n',
      'verifying: 1 of 1,000 repositories (0 %)\n',
    ])
  })
})
