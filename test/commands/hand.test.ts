/** The commands that change something: what they say first, what they do, and what they leave alone. */
import { describe, expect, it } from 'vitest'
import { ControlRefused, type HiddenContent } from '../../src/status/replication-control.ts'
import { digest, NOW_MS, name, tag } from '../status/fake-control.ts'
import { runningSite } from './running-site.ts'

describe.each([
  ['resync', 'synced'],
  ['reverify', 'verified'],
])('%s', (command, verb) => {
  it('has one repository taken up again, by its whole name', async () => {
    await using site = await runningSite()

    expect(await site.run([command, 'team/app'])).toEqual({
      status: 0,
      out: `1 repository is to be ${verb} again.\n`,
      err: '',
    })
    expect(site.control.asked).toEqual([[command, 'team/app', { dryRun: false }]])
  })

  it.each([
    ['--failed', [], { state: 'failed' }],
    ['--all', [], {}],
    ['--pattern', ['team/*'], { path: 'team/*' }],
    ['--pattern', ['team', '--failed'], { path: 'team', state: 'failed' }],
  ])('%s %j counts first and then does it', async (option, rest, filter) => {
    await using site = await runningSite()

    expect(await site.run([command, option, ...rest])).toEqual({
      status: 0,
      out: `2 repositories match.\n2 repositories are to be ${verb} again.\n`,
      err: '',
    })
    expect(site.control.asked).toEqual([
      [command, filter, { dryRun: true }],
      [command, filter, { dryRun: false }],
    ])
  })

  it('stops after the count when told so', async () => {
    await using site = await runningSite()

    expect(await site.run([command, '--all', '--dry-run'])).toMatchObject({
      status: 0,
      out: '2 repositories match.\nNothing was done.\n',
    })
    await site.run([command, 'team/app', '-n'])
    expect(site.control.asked).toEqual([
      [command, {}, { dryRun: true }],
      [command, 'team/app', { dryRun: true }],
    ])
  })

  it('says that a repository is not tracked', async () => {
    await using site = await runningSite()

    expect(await site.run([command, 'team/none'])).toEqual({
      status: 1,
      out: '',
      err: 'team/none is not tracked: the primary was never seen to have it\n',
    })
  })

  it.each([
    [[]],
    [['team/app', '--all']],
    [['--all', '--failed']],
    [['team/app', '--failed']],
    [['--all', '--pattern', 'team']],
  ])('%j is too little or too much to go by', async (args) => {
    await using site = await runningSite()
    const result = await site.run([command, ...args])

    expect(result).toMatchObject({ status: 2, out: '' })
    expect(result.err).toContain(`error: ${command}: expected a repository, --pattern, --failed`)
    expect(site.control.asked).toEqual([])
  })

  it('passes on what the API does not take for a name', async () => {
    await using site = await runningSite()

    expect(await site.run([command, 'Team/App'])).toMatchObject({
      status: 1,
      err: 'the running process answered 400: repository: expected a name such as team/app\n',
    })
  })
})

describe('pause and resume', () => {
  it('say what is so afterwards', async () => {
    await using site = await runningSite()

    expect(await site.run(['pause'])).toEqual({ status: 0, out: 'Replication is paused.\n', err: '' })
    expect(await site.run(['resume'])).toEqual({ status: 0, out: 'Replication goes on.\n', err: '' })
    expect(site.control.asked).toEqual([['pause'], ['resume']])
  })

  it('say why not', async () => {
    await using site = await runningSite({
      pause: () => Promise.reject(new ControlRefused('a rebuild is under way')),
    })

    expect(await site.run(['pause'])).toEqual({
      status: 1,
      out: '',
      err: 'the running process answered 409: a rebuild is under way\n',
    })
  })
})

describe('brake', () => {
  const tripped = {
    brake: async () => ({
      trippedAtMs: NOW_MS,
      repositories: 3,
      tags: 1,
      examples: [name('a'), name('b/c')],
    }),
  }
  const WAITING = `The brake was tripped 2026-11-22T06:00:00.000Z. No longer at the primary, and waiting to be removed here:
3 repositories, 1 tag
  a
  b/c
  and 1 more
`

  it('says that nothing waits, and has nothing to release', async () => {
    await using site = await runningSite()
    const nothing = { status: 0, out: 'The brake is not tripped: nothing waits.\n', err: '' }

    expect(await site.run(['brake'])).toEqual(nothing)
    expect(await site.run(['brake', '--release'])).toEqual(nothing)
    expect(site.control.asked).toEqual([])
  })

  it.each([[[]], [['--release', '--dry-run']]])(
    '%j says what waits, ends with status 1, and releases nothing',
    async (args) => {
      await using site = await runningSite(tripped)

      expect(await site.run(['brake', ...args])).toEqual({ status: 1, out: WAITING, err: '' })
      expect(site.control.asked).toEqual([])
    },
  )

  it('is released by a hand that has seen what for', async () => {
    await using site = await runningSite(tripped)

    expect(await site.run(['brake', '--release'])).toEqual({
      status: 0,
      out: `${WAITING}The brake is released.\n`,
      err: '',
    })
    expect(site.control.asked).toEqual([['releaseBrake']])
  })
})

describe('hidden and undelete', () => {
  const entry = (id: string, repository: string, ...tags: string[]): HiddenContent => ({
    id,
    hiddenAtMs: NOW_MS,
    repository: name(repository),
    tags: tags.map(tag),
    links: [{ kind: 'manifest', digest: digest('a') }],
  })
  const hidden = async function* () {
    yield entry('3/x', 'team/app', 'v3', 'v1')
    yield entry('gone', 'team/app')
    yield entry('2', 'team/app-two', 'v1')
    yield entry('1', 'team/app', 'v1')
  }
  const NEWEST = '2026-11-22T06:00:00.000Z team/app: v3, v1; 1 link\n'

  it('list what can be brought back', async () => {
    await using site = await runningSite({ hidden })
    await using empty = await runningSite()

    expect((await site.run(['hidden'])).out.split('\n')).toHaveLength(5)
    expect((await site.run(['hidden'])).out).toContain(NEWEST)
    expect(await empty.run(['hidden', 'team'])).toEqual({ status: 0, out: 'Nothing is hidden.\n', err: '' })
  })

  it('bring back the last removal of a tag, of that repository alone', async () => {
    await using site = await runningSite({ hidden })

    expect(await site.run(['undelete', 'team/app:v1'])).toEqual({
      status: 0,
      out: `1 removal of team/app:v1:\n${NEWEST}1 removal brought back.\n`,
      err: '',
    })
    expect(site.control.asked).toEqual([['restore', '3/x']])
  })

  it('bring back all of a repository, newest first, and say when one was gone by then', async () => {
    await using site = await runningSite({ hidden })
    const result = await site.run(['undelete', 'team/app'])

    expect(result.status).toBe(1)
    expect(result.out).toMatch(/^3 removals of team\/app:\n/)
    expect(result.out).toMatch(/\n2 removals brought back\.\n$/)
    expect(site.control.asked).toEqual([
      ['restore', '3/x'],
      ['restore', 'gone'],
      ['restore', '1'],
    ])
  })

  it('only list with --dry-run', async () => {
    await using site = await runningSite({ hidden })

    expect(await site.run(['undelete', 'team/app:v3', '--dry-run'])).toMatchObject({
      status: 0,
      out: `1 removal of team/app:v3:\n${NEWEST}Nothing was brought back.\n`,
    })
    expect(site.control.asked).toEqual([])
  })

  it('say when there is nothing', async () => {
    await using site = await runningSite({ hidden })

    expect(await site.run(['undelete', 'team/app:v9'])).toEqual({
      status: 1,
      out: '',
      err: 'nothing of team/app:v9 is hidden: it was never removed here, or longer ago than replication.deletegrace\n',
    })
  })

  it.each(['Team', 'a:b:c', 'a:', ':v1', 'a@sha256:b'])('take no %j for an image', async (image) => {
    await using site = await runningSite({ hidden })

    expect(await site.run(['undelete', image])).toMatchObject({ status: 2, out: '' })
    expect(site.control.asked).toEqual([])
  })
})
