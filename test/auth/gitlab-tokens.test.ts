/** The tokens GitLab's Rails issues, one by one (facts/gitlab.md 4.1), and what they let their bearer do here. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Caller } from '../../src/auth/caller.ts'
import { requiredAccess, type Scope } from '../../src/auth/scope.ts'
import { repositoryAccess, signingKey, type TokenOptions } from '../support/keys.ts'
import { type VerifierBench, verifierBench } from './verifier.ts'

let bench: VerifierBench
beforeAll(async () => {
  bench = await verifierBench(await signingKey())
})
afterAll(() => bench[Symbol.asyncDispose]())

async function callerWith(options: TokenOptions): Promise<Caller> {
  return await bench.verifier.verify(await bench.header(options))
}

const need = (name: string, ...actions: string[]): Scope[] => [{ type: 'repository', name, actions }]

/** As Rails fills it for a project. */
const META = {
  project_path: 'team/app',
  project_id: 42,
  root_namespace_id: 7,
  tag_deny_access_patterns: { push: ['^v'], delete: ['^v', 'latest'] },
  tag_immutable_patterns: ['^release'],
}
/** A nested JWT that the registry passes on in notifications; it is not ours to verify. */
const USER = 'eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl'

describe('the token of', () => {
  it.each([
    ['a personal access token', { sub: 'jane', auth_type: 'personal_access_token' }],
    ['a project access token', { sub: 'project_42_bot_1f2e3d', auth_type: 'personal_access_token' }],
    ['a group access token', { sub: 'group_7_bot_4c5b6a', auth_type: 'personal_access_token' }],
    ['a CI job token', { sub: 'jane', auth_type: 'build' }],
    ['a password', { sub: 'jane', auth_type: 'gitlab_or_ldap' }],
  ])('%s lets its user pull and push where it says', async (_kind, fields) => {
    const access = [repositoryAccess('team/app', ['pull', 'push'], META)]

    const caller = await callerWith({ ...fields, access, claims: { user: USER } })

    expect([caller.subject, caller.authType]).toEqual([fields.sub, fields.auth_type])
    expect(caller.allows(need('team/app', 'pull', 'push'))).toBe(true)
    expect(caller.allows(need('team/app', 'delete'))).toBe(false)
    expect(caller.allows(need('team/app/nested', 'pull'))).toBe(false)
    expect(caller.projectId('team/app')).toBe(42)
  })

  it('a deploy token has no subject and may pull', async () => {
    const caller = await callerWith({ auth_type: 'deploy_token', access: [repositoryAccess('team/app')] })

    expect(caller.subject).toBeUndefined()
    expect(caller.allows(need('team/app', 'pull'))).toBe(true)
    expect(caller.grantsMoreThanPull('team/app')).toBe(false)
  })

  it('an anonymous caller of a public project has neither subject nor kind', async () => {
    const caller = await callerWith({
      access: [repositoryAccess('open/app', ['pull'], META)],
      claims: { sub: null, auth_type: null, user: null },
    })

    expect([caller.subject, caller.authType]).toEqual([undefined, undefined])
    expect(caller.allows(need('open/app', 'pull'))).toBe(true)
  })

  it.each([
    ['an empty access', { access: [] }],
    ['no access', { access: undefined }],
    ['access null', { access: null }],
  ])('a login, with %s, opens the base and nothing else', async (_what, claims) => {
    const caller = await callerWith({ sub: 'jane', claims })

    expect(caller.allows(requiredAccess('GET', 'ping'))).toBe(true)
    expect(caller.allows(need('team/app', 'pull'))).toBe(false)
    expect(caller.allows(requiredAccess('GET', 'catalog'))).toBe(false)
    expect(caller.actionsOn('team/app').size).toBe(0)
    expect(caller.grantsMoreThanPull('team/app')).toBe(false)
    expect(caller.projectId('team/app')).toBeUndefined()
  })

  it('Rails itself, with actions *, may do anything to that repository only', async () => {
    const caller = await callerWith({ access: [repositoryAccess('team/app', ['*'])] })

    expect(caller.allows(need('team/app', 'pull', 'push', 'delete', '*'))).toBe(true)
    expect(caller.allows(need('team/app2', 'pull'))).toBe(false)
    expect(caller.actionsOn('team/app')).toEqual(new Set(['*']))
    expect(caller.grantsMoreThanPull('team/app')).toBe(true)
  })

  it('Rails for a nested rename holds `team/app/*`, which is a name and no pattern', async () => {
    const access = [repositoryAccess('team/app', ['pull', 'push']), repositoryAccess('team/app/*')]

    const caller = await callerWith({ access })

    expect(caller.allows(need('team/app/*', 'pull'))).toBe(true)
    expect(caller.allows(need('team/app/web', 'pull'))).toBe(false)
    expect(caller.allows(need('team/app/', 'pull'))).toBe(false)
  })

  it('an administrator opens the catalog, and no repository by that', async () => {
    const caller = await callerWith({ access: [{ type: 'registry', name: 'catalog', actions: ['*'] }] })

    expect(caller.allows(requiredAccess('GET', 'catalog'))).toBe(true)
    expect(caller.allows(need('catalog', 'pull'))).toBe(false)
    expect(caller.actionsOn('catalog').size).toBe(0)
  })

  it('a mount needs both of its repositories', async () => {
    const access = [repositoryAccess('team/app', ['push', 'pull']), repositoryAccess('team/base')]
    const mount = [...need('team/app', 'pull', 'push'), ...need('team/base', 'pull')]

    expect((await callerWith({ access })).allows(mount)).toBe(true)
    expect((await callerWith({ access: access.slice(0, 1) })).allows(mount)).toBe(false)
    expect((await callerWith({ access: access.slice(1) })).allows(mount)).toBe(false)
  })
})

describe('what a token grants', () => {
  it('adds up over entries that name the same repository', async () => {
    const access = [
      repositoryAccess('a', ['pull'], { project_id: 3 }),
      repositoryAccess('a', ['push', 'push']),
    ]

    const caller = await callerWith({ access })

    expect(caller.actionsOn('a')).toEqual(new Set(['pull', 'push']))
    expect(caller.allows(need('a', 'pull', 'push'))).toBe(true)
    expect(caller.grantsMoreThanPull('a')).toBe(true)
    expect(caller.projectId('a')).toBe(3)
  })

  it.each([
    [['pull'], false],
    [['pull', 'pull'], false],
    [[], false],
    [['push'], true],
    [['delete'], true],
    [['pull', 'delete'], true],
    [['*'], true],
    [['pull', '*'], true],
    [['something-new'], true],
  ])('%j is more than pull: %s', async (actions, more) => {
    expect((await callerWith({ access: [repositoryAccess('a', actions)] })).grantsMoreThanPull('a')).toBe(
      more,
    )
  })

  it.each([
    ['team/app', 'TEAM/app'],
    ['team/app', 'team/app/'],
    ['team', 'team/app'],
    ['team/app', 'team'],
    ['*', 'team/app'],
    ['team/app:pull', 'team/app'],
    ['', 'team/app'],
  ])('on "%s" is nothing on "%s"', async (granted, wanted) => {
    const caller = await callerWith({ access: [repositoryAccess(granted, ['*'])] })

    expect(caller.allows(need(wanted, 'pull'))).toBe(false)
  })

  it('is nothing on names that every object of JavaScript has', async () => {
    const caller = await callerWith({ access: [repositoryAccess('a')] })

    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'size']) {
      expect(caller.allows(need(name, 'pull')), name).toBe(false)
      expect(caller.allows(need('a', name)), name).toBe(false)
      expect(caller.allows([{ type: name, name: 'a', actions: ['pull'] }]), name).toBe(false)
      expect(caller.projectId(name), name).toBeUndefined()
    }
  })

  it('on a repository of such a name is that and no more', async () => {
    const caller = await callerWith({
      access: [repositoryAccess('__proto__'), { type: '__proto__', name: 'constructor', actions: ['*'] }],
    })

    expect(caller.allows(need('__proto__', 'pull'))).toBe(true)
    expect(caller.allows(need('__proto__', 'push'))).toBe(false)
    expect(caller.allows(need('constructor', 'pull'))).toBe(false)
    expect(Object.hasOwn(Object.prototype, 'pull')).toBe(false)
  })

  it('holds with hundreds of scopes in one token', async () => {
    const access = Array.from({ length: 500 }, (_, index) => repositoryAccess(`g/p${index}`))

    const caller = await callerWith({ access })

    expect(caller.allows(access)).toBe(true)
    expect(caller.allows([...access, ...need('g/p500', 'pull')])).toBe(false)
  })

  it.each([
    ['null', null],
    ['text', 'meta'],
    ['an id that is text', { project_id: '42' }],
    ['a negative id', { project_id: -1 }],
    ['an id past all integers', { project_id: 2 ** 60 }],
    ['an id that is null', { project_id: null }],
  ])('stands, without a project, where meta is %s', async (_what, meta) => {
    const caller = await callerWith({
      claims: { access: [{ type: 'repository', name: 'a', actions: ['pull'], meta }] },
    })

    expect(caller.allows(need('a', 'pull'))).toBe(true)
    expect(caller.projectId('a')).toBeUndefined()
  })
})
