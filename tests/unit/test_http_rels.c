// Relations over HTTP, over a fake connection and a fake commit room.
#include "http_world.h"
#include "base/limits.h"
#include "fake_rel.h"
#include "fake_log.h"

#define MAX    "18446744073709551615"
#define NOT_ID " is not an id: whole numbers from 0 to " MAX

#define ADD(from, members) "@/v1/relations/r/" from "|{\"members\":[" members "]}"
#define DEL(from, members) "@DELETE /v1/relations/r/" from "|{\"members\":[" members "]}"
#define EDIT(body)         "@/v1/relations/r|" body
#define DECLARE(body)      "@PUT /v1/relations/r|" body
#define COMBINE(how, body) "@/v1/relations/r/" how "|" body
#define READ(rest)         GET("/v1/relations/r/" rest)
#define DELETE(rest)       "DELETE /v1/relations/r/" rest " " H "\r\n"
#define MADE(n)            "200 {\"result\":\"Success\",\"created\":" n "}\n"
#define ADDED(n)           "200 {\"result\":\"Success\",\"added\":" n "}\n"
#define REMOVED(n)         "200 {\"result\":\"Success\",\"removed\":" n "}\n"
#define EDITED(added, removed) \
    "200 {\"result\":\"Success\",\"added\":" added ",\"removed\":" removed "}\n"
#define LIST(from, n, members) \
    "200 {\"relation\":\"r\",\"from\":" from ",\"count\":" n ",\"members\":[" members "]"
#define LAST                 ",\"more\":false}\n"
#define NEXT(x)              ",\"more\":true,\"next\":" x "}\n"
#define COUNT(from, n)       "200 {\"relation\":\"r\",\"from\":" from ",\"count\":" n "}\n"
#define CONTAINS(from, what) "200 {\"relation\":\"r\",\"from\":" from ",\"contains\":[" what "]}\n"
#define COMBINED(members)    "200 {\"members\":[" members "]"

static const struct exchange relations[] = {
    {GET("/v1/relations") DECLARE("{}") GET("/v1/relations/r"),
     "200 {\"relations\":[],\"more\":false}\n" MADE(
         "1") "200 "
              "{\"relation\":\"r\",\"created\":1,\"reverse\":false,\"order\":\"id\",\"durability\":"
              "\"fsync\",\"resident\":{\"lists\":0,\"members\":0}}\n"},
    {"PUT /v1/relations/a " H "\r\n"
     "PUT /v1/relations/a " H "\r\n"
     "@PUT "
     "/v1/relations/Z.:-_9|{\"reverse\":true,\"order\":\"recent\",\"durability\":\"relaxed\"}" GET(
         "/v1/relations/Z%2E:-_9") GET("/v1/relations") GET("/v1/relations?limit=1")
         GET("/v1/relations?after=Z.:-_9&limit=1"),
     MADE("1") FAIL("409", "the relation exists already") MADE(
         "2") "200 {\"relation\":\"Z.:-_9\",\"created\":2,\"reverse\":true,\"order\":\"recent\","
              "\"durability\":\"relaxed\",\"resident\":{\"lists\":0,\"members\":0}}\n"
              "200 {\"relations\":[\"Z.:-_9\",\"a\"],\"more\":false}\n"
              "200 {\"relations\":[\"Z.:-_9\"],\"more\":true}\n"
              "200 {\"relations\":[\"a\"],\"more\":false}\n"},
    {DECLARE("{\"reverse\":false,\"order\":\"id\",\"durability\":\"fsync\"}"), MADE("1")},
    {ADD("1", "2,3") ADD("2", "2") GET("/v1/relations/r"),
     ADDED("2") ADDED(
         "1") "200 "
              "{\"relation\":\"r\",\"created\":1,\"reverse\":false,\"order\":\"id\",\"durability\":"
              "\"fsync\",\"resident\":{\"lists\":2,\"members\":3}}\n"},
    {GET("/v1/relations/none") GET("/v1/relations/%2e") GET("/v1/relations/")
         GET("/v1/relations/a%2"),
     ERROR("404", "no such relation") ERROR("400", "the relation's name is not one")
         ERROR("400", "the relation's name is not one")
             ERROR("400", "the relation in the path has a % without two hexadecimal digits")},
    {DECLARE("{\"reverse\":1}") DECLARE("{\"order\":\"newest\"}") DECLARE("{\"durability\":true}")
         DECLARE("{\"order\":\"id\",\"order\":\"id\"}") DECLARE("{\"x\":1}") DECLARE("[]")
             DECLARE("{"),
     FAIL("400", "\\\"reverse\\\" must be true or false")
         FAIL("400", "\\\"order\\\" must be \\\"id\\\" or \\\"recent\\\"")
             FAIL("400", "\\\"durability\\\" must be \\\"fsync\\\" or \\\"relaxed\\\"")
                 FAIL("400", "member \\\"order\\\" is given twice")
                     FAIL("400", "unknown member \\\"x\\\"")
                         FAIL("400", "the body must be an object, not array")
                             FAIL("400", "JSON text ends at byte 1 where a member name should be")},
    {GET("/v1/relations?limit=0") GET("/v1/relations?x=1") GET("/v1/relations/r?x=1"),
     ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 10000")
         ERROR("400", "unknown argument \\\"x\\\"") ERROR("400", "unknown argument \\\"x\\\"")},
    {GET("/v1/relationsx"), ERROR("404", "no such path; GET / lists them")},
    {GET("/v1/relations/r/1/x"), ERROR("404", "no such path; GET / lists them")},
    {GET("/v1/relations/r/1/count/x"), ERROR("404", "no such path; GET / lists them")},
    {"PUT /v1/relations/r/1 " H "\r\n", ERROR("405", "this path does not take this method")},
    {GET("/v1/relations/r/get"), ERROR("405", "this path does not take this method")},
    {"@/v1/relations/r/froms|{}", ERROR("405", "this path does not take this method") "closed\n"},
};

static const struct exchange members[] = {
    // All 64 bits, as numbers and as strings; one given twice counts once.
    {ADD("0", "0," MAX ",9007199254740993,\"9223372036854775808\",9223372036854775807,0") READ("0")
         READ("0?ids=string") READ("0?ids=number&limit=1"),
     ADDED("5") LIST("0", "5", "0,9007199254740993,9223372036854775807,9223372036854775808," MAX)
         LAST LIST(
             "\"0\"", "5",
             "\"0\",\"9007199254740993\",\"9223372036854775807\",\"9223372036854775808\",\"" MAX
             "\"") LAST LIST("0", "5", "0") NEXT("0")},
    {ADD(MAX, "1") READ(MAX) READ("1844674407370955161%35/count") READ("0018/count"),
     ADDED("1") LIST(MAX, "1", "1") LAST COUNT(MAX, "1") COUNT("18", "0")},
    {ADD("1", "5,6,7") ADD("1", "7,8") DEL("1", "5,9") DELETE("1?members=6,8,8") READ("1"),
     ADDED("3") ADDED("1") REMOVED("1") REMOVED("2") LIST("1", "1", "7") LAST},
    {ADD("1", "") READ("1"), ADDED("0") LIST("1", "0", "") LAST},
    {"DELETE /v1/relations/r/1?members=2 " H "Content-Length: 0\r\n\r\n", REMOVED("0")},
    {"DELETE /v1/relations/r/1 " H "Transfer-Encoding: chunked\r\n\r\n"
     "5\r\n{\"mem\r\nb\r\nbers\":[2]} \r\n0\r\n\r\n" READ("1/count"),
     REMOVED("0") COUNT("1", "0")},
    // Unknown relations and lists are empty.
    {READ("7") READ("7/count") READ("7/contains?members=1,2") READ("froms"),
     LIST("7", "0", "") LAST COUNT("7", "0")
         CONTAINS("7", "false,false") "200 {\"relation\":\"r\",\"froms\":[],\"more\":false}\n"},
    {ADD("1", "2,4") READ("1/contains?members=1,2,3,4,2," MAX)
         READ("1/contains?members=2&ids=string"),
     ADDED("2") CONTAINS("1", "false,true,false,true,true,false") CONTAINS("\"1\"", "true")},
    // Pages.
    {ADD("1", "1,2,3,4,5") READ("1?limit=2") READ("1?limit=2&after=2") READ("1?limit=2&after=4")
         READ("1?after=" MAX) READ("1?limit=2&order=falling")
             READ("1?order=falling&after=3&limit=1000000"),
     ADDED("5") LIST("1", "5", "1,2") NEXT("2") LIST("1", "5", "3,4") NEXT("4") LIST("1", "5", "5")
         LAST LIST("1", "5", "") LAST LIST("1", "5", "5,4") NEXT("4") LIST("1", "5", "2,1") LAST},
    {DECLARE("{\"order\":\"recent\"}") ADD("1", "5,9,1") ADD("1", "9,3")
         READ("1?order=newest&limit=2") READ("1?order=newest&after=3")
             READ("1?order=id&ids=string&limit=1"),
     MADE("1") ADDED("3") ADDED("1") LIST("1", "4", "3,1") NEXT("3") LIST("1", "4", "9,5")
         LAST LIST("\"1\"", "4", "\"1\"") NEXT("\"1\"")},
    // The other side.
    {DECLARE("{\"reverse\":true}") ADD("1", "7,8") ADD("2", "7") READ("7?reverse=true")
         READ("7/count?reverse=true") READ("8/contains?members=1,2&reverse=true")
             READ("7?reverse=false"),
     MADE("1") ADDED("2") ADDED("1") LIST("7", "2", "1,2") LAST COUNT("7", "2")
         CONTAINS("8", "true,false") LIST("7", "0", "") LAST},
    {ADD("1", "7") READ("7?reverse=true") READ("7/count?reverse=true") READ("1?order=newest")
         READ("froms?reverse=true") READ("1?order=newest&reverse=true"),
     ADDED("1") ERROR(
         "400", "relation \\\"r\\\" is not kept in reverse: it must be declared before its first "
                "member, with PUT and {\\\"reverse\\\":true}")
         ERROR("400",
               "relation \\\"r\\\" is not kept in reverse: it must be declared before its first "
               "member, with PUT and {\\\"reverse\\\":true}")
             ERROR("400", "relation \\\"r\\\" does not keep the order of arrival: it must be "
                          "declared before "
                          "its first member, with PUT and {\\\"order\\\":\\\"recent\\\"}")
                 ERROR("400", "relation \\\"r\\\" is not kept in reverse: it must be declared "
                              "before its first "
                              "member, with PUT and {\\\"reverse\\\":true}")
                     ERROR("400", "order=newest and reverse=true exclude each other")},
    // HEAD has the length of what GET gives; Origin.
    {"POST /v1/relations/r/1 " H
     "Origin: http://evil\r\nContent-Length: 15\r\n\r\n{\"members\":[1]}",
     FAIL("403", "refused: sent by a web page of another site (Origin is not Host)") "closed\n"},
    {"DELETE /v1/relations/r/1?members=1 " H "Origin: null\r\n\r\n",
     FAIL("403", "refused: sent by a web page of another site (Origin is not Host)")},
    {"DELETE /v1/relations/r/1?members=1 " H "Origin: http://h\r\n\r\n", REMOVED("0")},
    // A body belongs to DELETE here and nowhere else, and is framed as any other.
    {"DELETE /v1/key?key=a " H "Content-Length: 2\r\n\r\n{}",
     FAIL("400", "this path takes its arguments after '?', not in a body") "closed\n"},
    {"GET /v1/relations/r/1 " H "Content-Length: 2\r\n\r\n{}",
     ERROR("400", "this path takes its arguments after '?', not in a body") "closed\n"},
    {"DELETE /v1/relations/r " H "Content-Length: 2\r\n\r\n{}",
     ERROR("405", "this path does not take this method") "closed\n"},
    {"DELETE /v1/relations/r/1 " H "Content-Length: 5000\r\n\r\n",
     FAIL("413", "request body of 5000 bytes is over 4096") "closed\n"},
    {"DELETE /v1/relations/r/1 " H "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", NULL},
    {"DELETE /v1/relations/r/1 " H
     "Content-Length: 15\r\nContent-Length: 15\r\n\r\n{\"members\":[1]}",
     NULL},
};

static const struct exchange bad_ids[] = {
    {ADD("1", "0,1,2,1.5") ADD("1", "1e3") ADD("1", "3,1.0") ADD("1", "-1")
         ADD("1", "-9223372036854775808") ADD("1", "-0.0"),
     FAIL("400", "members[3]: 1.5" NOT_ID) FAIL("400", "members[0]: 1000.0" NOT_ID)
         FAIL("400", "members[1]: 1.0" NOT_ID) FAIL("400", "members[0]: -1" NOT_ID)
             FAIL("400", "members[0]: -9223372036854775808" NOT_ID)
                 FAIL("400", "members[0]: -0.0" NOT_ID)},
    {ADD("1", "1,18446744073709551616") ADD("1", "-9223372036854775809") ADD("1", "1e400"),
     FAIL("400", "number 18446744073709551616 at byte 14 is beyond 64 bits")
         FAIL("400", "number -9223372036854775809 at byte 12 is beyond 64 bits")
             FAIL("400", "number 1e400 at byte 12 is beyond the range of a double")},
    {ADD("1", "1,\"18446744073709551616\"") ADD("1", "\"\"") ADD("1", "\"-1\"") ADD("1", "\" 1\"")
         ADD("1", "\"1.0\"") ADD("1", "\"x\\u0000y\""),
     FAIL("400", "members[1]: \\\"18446744073709551616\\\"" NOT_ID) FAIL(
         "400", "members[0]: \\\"\\\"" NOT_ID) FAIL("400", "members[0]: \\\"-1\\\"" NOT_ID)
         FAIL("400", "members[0]: \\\" 1\\\"" NOT_ID) FAIL("400", "members[0]: \\\"1.0\\\"" NOT_ID)
             FAIL("400", "members[0]: \\\"x\\\\x00y\\\"" NOT_ID)},
    {ADD("1", "null") ADD("1", "1,true") ADD("1", "[1]") ADD("1", "1,2,{}"),
     FAIL("400", "members[0]: null" NOT_ID) FAIL("400", "members[1]: true" NOT_ID)
         FAIL("400", "members[0]: array" NOT_ID) FAIL("400", "members[2]: object" NOT_ID)},
    {DEL("1", "1,-2") READ("x") READ("-1/count") READ("1.5/contains?members=1")
         READ("18446744073709551616") ADD("", "1") READ("%zz"),
     FAIL("400", "members[1]: -2" NOT_ID) ERROR("400", "\\\"x\\\" in the path" NOT_ID) ERROR(
         "400", "\\\"-1\\\" in the path" NOT_ID) ERROR("400", "\\\"1.5\\\" in the path" NOT_ID)
         ERROR("400", "\\\"18446744073709551616\\\" in the path" NOT_ID)
             FAIL("400", "\\\"\\\" in the path" NOT_ID)
                 ERROR("400", "the FROM in the path has a % without two hexadecimal digits")},
    {READ("1/contains?members=1,,2") READ("1/contains?members=") READ("1/contains?members=1,") READ(
         "1/contains") READ("1/contains?members=1.5") DELETE("1?members=5,-1") READ("1?after=x"),
     ERROR("400", "argument \\\"members\\\"[1]: \\\"\\\"" NOT_ID)
         ERROR("400", "argument \\\"members\\\"[0]: \\\"\\\"" NOT_ID)
             ERROR("400", "argument \\\"members\\\"[1]: \\\"\\\"" NOT_ID)
                 ERROR("400", "argument \\\"members\\\" is missing")
                     ERROR("400", "argument \\\"members\\\"[0]: \\\"1.5\\\"" NOT_ID)
                         FAIL("400", "argument \\\"members\\\"[1]: \\\"-1\\\"" NOT_ID)
                             ERROR("400", "argument \\\"after\\\": \\\"x\\\"" NOT_ID)},
    {"@/v1/relations/r/1|{}"
     "@/v1/relations/r/1|{\"members\":5}"
     "@/v1/relations/r/1|[5]"
     "@/v1/relations/r/1|{\"member\":[]}"
     "@/v1/relations/r/1|",
     FAIL("400", "\\\"members\\\" is missing")
         FAIL("400", "\\\"members\\\" must be an array of ids, not integer")
             FAIL("400", "the body must be an object, not array")
                 FAIL("400", "unknown member \\\"member\\\"") FAIL("400", "JSON text is empty")},
    {DELETE("1") "@DELETE /v1/relations/r/1?members=1|{\"members\":[1]}"
                 "@/v1/relations/r/1?members=1|{\"members\":[1]}",
     FAIL("400", "the members are needed once: in a body or as argument \\\"members\\\"")
         FAIL("400", "the members are needed once: in a body or as argument \\\"members\\\"")
             FAIL("400", "unknown argument \\\"members\\\"")},
    {READ("1?limit=0") READ("1?limit=1000001") READ("1?order=up") READ("1?reverse=1")
         READ("1?ids=float") "@/v1/relations/r/1?durability=fsync|{\"members\":[1]}",
     ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 1000000")
         ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 1000000")
             ERROR("400", "argument \\\"order\\\" must be id, falling or newest")
                 ERROR("400", "argument \\\"reverse\\\" must be true or false")
                     ERROR("400", "argument \\\"ids\\\" must be number or string")
                         FAIL("400", "argument \\\"durability\\\" must be relaxed")},
    // A bad name, wherever it is used.
    {"@/v1/relations/-r/1|{\"members\":[1]}" GET("/v1/relations/r!/1")
         GET("/v1/relations/.r/1/count") GET("/v1/relations/r%20/1/contains?members=1")
             GET("/v1/relations/r%FF/froms") "@/v1/relations/r%00/get|{\"from\":[1]}"
                                             "@PUT /v1/relations//|{}",
     FAIL("400", "the relation's name is not one") ERROR("400", "the relation's name is not one")
         ERROR("400", "the relation's name is not one") ERROR(
             "400", "the relation's name is not one") ERROR("400", "the relation's name is not one")
             ERROR("400", "the relation's name is not one")
                 ERROR("405", "this path does not take this method") "closed\n"},
};

static const struct exchange edits[] = {
    {EDIT("{\"add\":[{\"from\":1,\"members\":[1,2]},{\"from\":\"2\",\"members\":[3]},{\"from\":1,"
          "\"members\":[2,4]}],"
          "\"remove\":[{\"members\":[\"4\",5],\"from\":1}]}") READ("1") READ("2/count"),
     EDITED("4", "1") LIST("1", "2", "1,2") LAST COUNT("2", "1")},
    {EDIT("{\"remove\":[{\"from\":1,\"members\":[2]}]}")
         EDIT("{\"add\":[],\"remove\":[{\"from\":1,\"members\":[]}]}"),
     EDITED("0", "0") EDITED("0", "0")},
    // All or nothing.
    {EDIT("{\"add\":[{\"from\":1,\"members\":[1]},{\"from\":2,\"members\":[1,2.5]}]}")
         READ("1/count"),
     FAIL("400", "add[1]: members[1]: 2.5" NOT_ID) COUNT("1", "0")},
    {EDIT("{\"remove\":[{\"from\":-1,\"members\":[1]}]}") EDIT("{\"add\":[{\"from\":1}]}")
         EDIT("{\"add\":[{\"members\":[1]}]}") EDIT("{\"add\":[5]}") EDIT("{\"add\":{}}")
             EDIT("{\"add\":[{\"from\":1,\"members\":[],\"x\":1}]}"),
     FAIL("400", "remove[0]: from: -1" NOT_ID) FAIL("400", "add[0]: \\\"members\\\" is missing")
         FAIL("400", "add[0]: \\\"from\\\" is missing")
             FAIL("400", "add[0]: a group must be an object, not integer")
                 FAIL("400", "\\\"add\\\" must be an array of objects, not object")
                     FAIL("400", "add[0]: unknown member \\\"x\\\"")},
    {EDIT("{}") EDIT("{\"add\":[]}") EDIT("[]") EDIT("{\"adds\":[]}"),
     FAIL("400", "\\\"add\\\" or \\\"remove\\\" is needed, with one object at least")
         FAIL("400", "\\\"add\\\" or \\\"remove\\\" is needed, with one object at least")
             FAIL("400", "the body must be an object, not array")
                 FAIL("400", "unknown member \\\"adds\\\"")},
    // In a txn with others.
    {TXN("{\"ops\":[{\"op\":\"relate\",\"relation\":\"r\",\"from\":" MAX
         ",\"members\":[1,\"2\",2]},"
         "{\"op\":\"put\",\"key\":\"q\",\"value\":1},"
         "{\"op\":\"unrelate\",\"relation\":\"r\",\"from\":\"" MAX "\",\"members\":[2,3]}]}")
         READ(MAX) GET("/v1/get?key=q"),
     "200 {\"result\":\"Success\",\"sequence\":1,\"results\":[{\"relation\":\"r\",\"from\":" MAX
     ",\"changed\":2},"
     "{\"key\":\"q\",\"version\":1},{\"relation\":\"r\",\"from\":" MAX ",\"changed\":1}]}\n" LIST(
         MAX, "1", "1") LAST "200 {\"key\":\"q\",\"value\":1,\"version\":1}\n"},
    {TXN("{\"ops\":[{\"op\":\"relate\",\"relation\":\"r\",\"from\":1,\"members\":[1]},{\"op\":"
         "\"check\",\"key\":\"a\",\"version\":9}]}") READ("1/count"),
     "409 {\"result\":\"Failure\",\"error\":\"version conflict: key \\\"a\\\" is at version 1, not "
     "9\",\"conflicts\":[{\"key\":\"a\",\"expected\":9,\"version\":1}]}\n" COUNT("1", "0")},
    {TXN("{\"ops\":[{\"op\":\"check\",\"key\":\"a\",\"version\":1},{\"op\":\"relate\",\"relation\":"
         "\"r\",\"from\":1,\"members\":[1,2,3,1.5]}]}"),
     FAIL("400", "operation 1: members[3]: 1.5" NOT_ID)},
    {TXN("{\"ops\":[{\"op\":\"relate\",\"relation\":[1],\"from\":1,\"members\":[]}]}") TXN(
         "{\"ops\":[{\"op\":\"relate\",\"relation\":\"r\",\"from\":1.5,\"members\":[]}]}")
         TXN("{\"ops\":[{\"op\":\"unrelate\",\"relation\":\"r\",\"from\":1}]}") TXN(
             "{\"ops\":[{\"op\":\"relate\",\"relation\":\"r\",\"from\":1,\"members\":[],\"key\":"
             "\"k\"}]}") TXN("{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":1,\"from\":1}]}")
             TXN("{\"ops\":[{\"op\":\"relate\",\"relation\":\"-\",\"from\":1,\"members\":[]}]}"),
     FAIL("400", "operation 0: \\\"relation\\\" must be a string, not array")
         FAIL("400", "operation 0: from: 1.5" NOT_ID)
             FAIL("400", "operation 0: \\\"members\\\" is missing")
                 FAIL("400", "operation 0, key \\\"k\\\": unknown member \\\"key\\\" for relate")
                     FAIL("400", "operation 0, key \\\"k\\\": unknown member \\\"from\\\" for put")
                         FAIL("400", "the relation's name is not one")},
};

#define SETS                                                                                 \
    EDIT("{\"add\":[{\"from\":1,\"members\":[1,2,3,4,5]},{\"from\":2,\"members\":[2,4,6]},{" \
         "\"from\":3,"                                                                       \
         "\"members\":[4,5,6," MAX "]}]}")
#define SETS_ADDED EDITED("12", "0")

static const struct exchange several[] = {
    {SETS COMBINE("get", "{\"from\":[3,9,\"1\",1],\"limit\":2}")
         COMBINE("get?ids=string", "{\"from\":[2]}") COMBINE("get", "{\"from\":[]}"),
     SETS_ADDED
     "200 "
     "{\"relation\":\"r\",\"lists\":[{\"from\":3,\"count\":4,\"members\":[4,5]},{\"from\":9,"
     "\"count\":0,\"members\":[]},"
     "{\"from\":1,\"count\":5,\"members\":[1,2]},{\"from\":1,\"count\":5,\"members\":[1,2]}]}\n"
     "200 "
     "{\"relation\":\"r\",\"lists\":[{\"from\":\"2\",\"count\":3,\"members\":[\"2\",\"4\",\"6\"]}]}"
     "\n"
     "200 {\"relation\":\"r\",\"lists\":[]}\n"},
    {SETS COMBINE("intersect", "{\"lists\":[1,2]}") COMBINE(
         "intersect", "{\"lists\":[1,\"2\",{\"from\":3}]}") COMBINE("union", "{\"lists\":[2,3]}")
         COMBINE("difference", "{\"lists\":[1,2,3]}") COMBINE("union", "{\"lists\":[9]}"),
     SETS_ADDED COMBINED("2,4") LAST COMBINED("4") LAST COMBINED("2,4,5,6," MAX)
         LAST COMBINED("1,3") LAST COMBINED("") LAST},
    {SETS COMBINE("union", "{\"lists\":[1,3],\"limit\":3}")
         COMBINE("union?ids=string", "{\"lists\":[1,3],\"limit\":3,\"after\":3}")
             COMBINE("union", "{\"lists\":[1,3],\"after\":\"6\"}"),
     SETS_ADDED COMBINED("1,2,3") NEXT("3") COMBINED("\"4\",\"5\",\"6\"") NEXT("\"6\"")
         COMBINED(MAX) LAST},
    {"@PUT /v1/relations/s|{\"reverse\":true}"
     "@/v1/relations/s/50|{\"members\":[4]}"
     "@/v1/relations/s/4|{\"members\":[4]}" SETS COMBINE(
         "intersect", "{\"lists\":[1,{\"from\":4,\"relation\":\"s\",\"reverse\":true}]}")
         COMBINE("intersect", "{\"lists\":[1,{\"from\":4,\"relation\":\"t\",\"reverse\":false}]}"),
     MADE("1") ADDED("1") ADDED("1") SETS_ADDED COMBINED("4") LAST COMBINED("") LAST},
    {SETS COMBINE("intersect", "{\"lists\":[1,{\"from\":4,\"reverse\":true}]}"),
     SETS_ADDED ERROR("400", "lists[1]: relation \\\"r\\\" is not kept in reverse: it must be "
                             "declared before its first "
                             "member, with PUT and {\\\"reverse\\\":true}")},
    {COMBINE("intersect", "{\"lists\":[1,-4]}")
         COMBINE("union", "{\"lists\":[{\"from\":1,\"x\":2}]}")
             COMBINE("union", "{\"lists\":[{\"relation\":\"r\"}]}")
                 COMBINE("union", "{\"lists\":[{\"from\":1,\"relation\":5}]}")
                     COMBINE("union", "{\"lists\":[{\"from\":1,\"relation\":\"-\"}]}")
                         COMBINE("union", "{\"lists\":[{\"from\":1,\"reverse\":\"true\"}]}"),
     ERROR("400", "lists[1]: from: -4" NOT_ID) ERROR("400", "lists[0]: unknown member \\\"x\\\"")
         ERROR("400", "lists[0]: \\\"from\\\" is missing")
             ERROR("400", "lists[0]: \\\"relation\\\" must be a string, not integer")
                 ERROR("400", "lists[0]: the relation's name is not one")
                     ERROR("400", "lists[0]: \\\"reverse\\\" must be true or false")},
    {COMBINE("union", "{\"lists\":[]}") COMBINE("union", "{\"lists\":5}") COMBINE("union", "{}")
         COMBINE("union", "{\"lists\":[1],\"limit\":0}") COMBINE(
             "union", "{\"lists\":[1],\"after\":1.5}") COMBINE("union?x=1", "{\"lists\":[1]}"),
     ERROR("400", "\\\"lists\\\" is an empty array")
         ERROR("400", "\\\"lists\\\" must be an array, not integer")
             ERROR("400", "\\\"lists\\\" is missing")
                 ERROR("400", "\\\"limit\\\" must be a whole number from 1 to 1000000")
                     ERROR("400", "after: 1.5" NOT_ID) ERROR("400", "unknown argument \\\"x\\\"")},
    {COMBINE("union", "{\"lists\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
                      "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}"),
     ERROR("413", "\\\"lists\\\" holds 65 lists, over 64")},
    {COMBINE("get", "{}") COMBINE("get", "{\"from\":1}") COMBINE("get", "{\"from\":[1,2.5]}")
         COMBINE("get", "{\"from\":[1],\"limit\":1000001}")
             COMBINE("get", "{\"from\":[1],\"reverse\":1}"),
     ERROR("400", "\\\"from\\\" is missing")
         ERROR("400", "\\\"from\\\" must be an array of ids, not integer")
             ERROR("400", "from[1]: 2.5" NOT_ID)
                 ERROR("400", "\\\"limit\\\" must be a whole number from 1 to 1000000")
                     ERROR("400", "\\\"reverse\\\" must be true or false")},
    {DECLARE("{\"reverse\":true}") SETS COMBINE("get", "{\"from\":[4,5],\"reverse\":true}"),
     MADE("1") SETS_ADDED "200 "
                          "{\"relation\":\"r\",\"lists\":[{\"from\":4,\"count\":3,\"members\":[1,2,"
                          "3]},{\"from\":5,\"count\":2,\"members\":[1,3]}]}\n"},
    // All lists, in the fake's order.
    {SETS READ("froms") READ("froms?limit=2") READ("froms?after=3")
         READ("froms?after=4&ids=string&limit=1"),
     SETS_ADDED
     "200 "
     "{\"relation\":\"r\",\"froms\":[{\"from\":2,\"count\":3},{\"from\":1,\"count\":5},{\"from\":3,"
     "\"count\":4}],\"more\":false}\n"
     "200 "
     "{\"relation\":\"r\",\"froms\":[{\"from\":2,\"count\":3},{\"from\":1,\"count\":5}],\"more\":"
     "true}\n"
     "200 {\"relation\":\"r\",\"froms\":[],\"more\":false}\n"
     "200 {\"relation\":\"r\",\"froms\":[{\"from\":\"1\",\"count\":5}],\"more\":true}\n"},
    {DECLARE("{\"reverse\":true}") ADD("1", "7,8") ADD("2", "8") READ("froms?reverse=true"),
     MADE("1") ADDED("2") ADDED("1") "200 "
                                     "{\"relation\":\"r\",\"froms\":[{\"from\":7,\"count\":1},"
                                     "{\"from\":8,\"count\":2}],\"more\":false}\n"},
    {READ("froms?after=x") READ("froms?limit=0") READ("froms?x=1"),
     ERROR("400", "argument \\\"after\\\": \\\"x\\\"" NOT_ID)
         ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 1000000")
             ERROR("400", "unknown argument \\\"x\\\"")},
};

TABLE_TEST(relations)
TABLE_TEST(members)
TABLE_TEST(bad_ids)
TABLE_TEST(edits)
TABLE_TEST(several)

// ---- what a table does not show ----

static void send_text(struct world *w, const char *text)
{
    char full[8192];
    fake_conn_feed(w->conn, full, expand(text, full, sizeof full));
}

// The output as it is, and forgets it.
static const char *taken(struct world *w)
{
    struct buf *out = conn_out(w->conn);
    snprintf(got, sizeof got, "%.*s", (int)buf_len(out), (const char *)buf_head(out));
    fake_conn_take(w->conn);
    return got;
}

// Lets what is waited for happen; the request is then answered.
static void settle(struct world *w)
{
    assert_true(w->conn->waiting);
    assert_output(w, "");
    fake_commit_work(w->commit);
    fake_conn_run(w->conn);
    assert_false(w->conn->waiting);
}

static void open_sets(struct world *w)
{
    world_open(w);
    send_text(w, "@PUT /v1/relations/r|{\"reverse\":true}" SETS);
    assert_output(w, MADE("1") SETS_ADDED);
    fake_commit_defer(w->commit, true);
}

// Every request that may find its list on the disk only.
static void cold(void **state)
{
    static const struct exchange reads[] = {
        {READ("1?limit=1"), LIST("1", "5", "1") NEXT("1")},
        {READ("1/count"), COUNT("1", "5")},
        {READ("1/contains?members=5"), CONTAINS("1", "true")},
        {COMBINE("get", "{\"from\":[8,2,1],\"limit\":1}"),
         "200 {\"relation\":\"r\",\"lists\":[{\"from\":8,\"count\":0,\"members\":[]},{\"from\":2,"
         "\"count\":3,\"members\":[2]},{\"from\":1,\"count\":5,\"members\":[1]}]}\n"},
        {COMBINE("intersect", "{\"lists\":[{\"from\":1,\"relation\":\"none\"},1]}"),
         COMBINED("") LAST},
        {COMBINE("difference", "{\"lists\":[2,1]}"), COMBINED("6") LAST},
        {ADD("1", "6"), ADDED("1")},
        {DEL("1", "6,1"), REMOVED("2")},
        {EDIT("{\"remove\":[{\"from\":9,\"members\":[1]},{\"from\":1,\"members\":[2]}]}"),
         EDITED("0", "1")},
        {TXN("{\"ops\":[{\"op\":\"relate\",\"relation\":\"r\",\"from\":1,\"members\":[2]}]}"),
         "200 "
         "{\"result\":\"Success\",\"sequence\":6,\"results\":[{\"relation\":\"r\",\"from\":1,"
         "\"changed\":1}]}\n"},
    };
    struct world w;
    open_sets(&w);
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        fake_rel_cold(w.commit, "r", 1, false);
        send_text(&w, reads[i].input);
        settle(&w);
        assert_output(&w, reads[i].output);
    }
    fake_rel_cold(w.commit, "r", 0, true);
    send_text(&w, READ("4?reverse=true"));
    settle(&w);
    assert_output(&w, LIST("4", "3", "1,2,3") LAST);
    // What cannot be brought in.
    fake_rel_cold(w.commit, "r", 1, false);
    fake_commit_fetch_result(w.commit, ERR_IO);
    send_text(&w, READ("1"));
    settle(&w);
    assert_output(&w, ERROR("500", "input/output error"));
    // The connection dies meanwhile.
    fake_rel_cold(w.commit, "r", 1, false);
    send_text(&w, READ("1"));
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    world_close(&w);
}

static void room(void **state)
{
    static const struct exchange writes[] = {
        {"@PUT /v1/relations/s|{}", MADE("2")},
        {ADD("1", "6"), ADDED("1")},
        {DEL("1", "6,1"), REMOVED("2")},
        {EDIT("{\"add\":[{\"from\":9,\"members\":[1]}]}"), EDITED("1", "0")},
    };
    struct world w;
    open_sets(&w);
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
        fake_commit_fail(w.commit, ERR_FULL);
        send_text(&w, writes[i].input);
        settle(&w);
        assert_output(&w, writes[i].output);
    }
    world_close(&w);
}

static void failures(void **state)
{
    static const struct {
        const char *input;
        enum err e;
        const char *output;
    } cases[] = {
        {ADD("1", "6"), ERR_NO_SPACE, "503 {\"result\":\"Failure\",\"error\":\"no space"},
        {DEL("1", "6"), ERR_NO_MEMORY, "503 {\"result\":\"Failure\""},
        {EDIT("{\"add\":[{\"from\":9,\"members\":[1]}]}"), ERR_CLOSED,
         "503 {\"result\":\"Failure\""},
        {"@PUT /v1/relations/s|{}", ERR_TOO_BIG, "413 {\"result\":\"Failure\""},
        {ADD("1", "6"), ERR_REUSED, "422 {\"result\":\"Failure\""},
        {READ("1"), ERR_DAMAGED, "500 {\"error\":\"stored data is damaged\"}"},
        {READ("1/count"), ERR_IO, "500 {\"error\""},
        {READ("1/contains?members=1"), ERR_NO_MEMORY, "503 {\"error\""},
        {COMBINE("get", "{\"from\":[1,2]}"), ERR_IO, "500 {\"error\""},
        {COMBINE("union", "{\"lists\":[1,2]}"), ERR_IO, "500 {\"error\":\"input/output error\"}"},
        {READ("froms"), ERR_AGAIN, "503 {\"error\""},
    };
    struct world w;
    open_sets(&w);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_commit_fail(w.commit, cases[i].e);
        send_text(&w, cases[i].input);
        fake_conn_run(w.conn);
        summary(&w, got, sizeof got);
        if (strncmp(got, cases[i].output, strlen(cases[i].output)) != 0)
            fail_msg("%s gave %s", cases[i].input, got);
    }
    world_close(&w);
}

// What each reply waits for: all that it rests on, and nothing if the request is relaxed.
static void gates(void **state)
{
    static const struct {
        const char *input;
        uint64_t gate;
    } cases[] = {
        {READ("1"), 2},
        {READ("1/count"), 2},
        {READ("1/contains?members=1"), 2},
        {READ("1?order=newest"), 2}, // a refusal that rests on how the relation was declared
        {GET("/v1/relations"), 2},
        {GET("/v1/relations/r"), 2},
        {GET("/v1/relations/none"), 2},
        {"@PUT /v1/relations/r|{}", 2},
        {COMBINE("get", "{\"from\":[1,2]}"), 2},
        {COMBINE("union", "{\"lists\":[1,2]}"), 2},
        {READ("froms"), 2},
        {READ("x"), 0},
        {ADD("1", "100"), 3},
        {DEL("1", "100"), 4},
        {EDIT("{\"add\":[{\"from\":9,\"members\":[1]}]}"), 5},
        {"@PUT /v1/relations/s|{\"durability\":\"relaxed\"}", 6},
        {"@/v1/relations/s/1|{\"members\":[1]}", 0},
        {GET("/v1/relations/s/1"), 0},
        {"@/v1/relations/r/1?durability=relaxed|{\"members\":[200]}", 0},
        {"@DELETE /v1/relations/r/1?durability=relaxed|{\"members\":[200]}", 0},
        {"DELETE /v1/relations/r/1?members=200&durability=relaxed " H "\r\n", 0},
        {"@/v1/relations/r?durability=relaxed|{\"add\":[{\"from\":1,\"members\":[7]}]}", 0},
        {READ("1"), 11},
    };
    struct world w;
    open_sets(&w);
    fake_commit_defer(w.commit, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w.conn->gate = 0;
        send_text(&w, cases[i].input);
        fake_conn_run(w.conn);
        assert_true(buf_len(conn_out(w.conn)) > 0);
        fake_conn_take(w.conn);
        if (w.conn->gate != cases[i].gate)
            fail_msg("%s waits for %llu, not %llu", cases[i].input,
                     (unsigned long long)w.conn->gate, (unsigned long long)cases[i].gate);
    }
    world_close(&w);
}

// One body to one path, under one key.
static void send_keyed(struct world *w, const char *method, const char *path, const char *body)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "%s %s " H "Idempotency-Key: k\r\nContent-Length: %zu\r\n\r\n%s", method, path,
                     strlen(body), body);
    fake_conn_feed(w->conn, text, (size_t)n);
}

static void idempotency(void **state)
{
    const char *body = "{\"members\":[1,2]}";
    struct world w;
    world_open(&w);
    send_keyed(&w, "POST", "/v1/relations/r/1", body);
    assert_output(&w, ADDED("2"));
    send_keyed(&w, "POST", "/v1/relations/r/1", body);
    const char *text = taken(&w);
    assert_non_null(strstr(text, "Idempotent-Replayed: true\r\n"));
    assert_non_null(strstr(text, "\"added\":2}"));
    send_keyed(&w, "POST", "/v1/relations/r/2", body);
    assert_output(&w, FAIL("422", "idempotency key was used with another request"));
    send_keyed(&w, "DELETE", "/v1/relations/r/1", body);
    assert_output(&w, FAIL("422", "idempotency key was used with another request"));
    world_close(&w);
    world_open(&w);
    body = "{\"add\":[{\"from\":1,\"members\":[1]},{\"from\":2,\"members\":[1]}],\"remove\":[{"
           "\"from\":1,\"members\":[1]}]}";
    for (int i = 0; i < 2; i++) {
        send_keyed(&w, "POST", "/v1/relations/r", body);
        assert_output(&w, EDITED("2", "1"));
    }
    assert_int_equal(fake_commit_seq(w.commit), 1);
    world_close(&w);
    world_open(&w);
    send_keyed(&w, "DELETE", "/v1/relations/r/1?members=1", "");
    assert_output(&w, REMOVED("0"));
    send_keyed(&w, "DELETE", "/v1/relations/r/1?members=2", "");
    assert_output(&w, FAIL("422", "idempotency key was used with another request"));
    world_close(&w);
}

static void methods(void **state)
{
    static const struct exchange allowed[] = {
        {"/v1/relations", "GET, HEAD, OPTIONS"},
        {"/v1/relations/r", "GET, HEAD, POST, PUT, OPTIONS"},
        {"/v1/relations/r/1", "GET, HEAD, POST, DELETE, OPTIONS"},
        {"/v1/relations/r/froms", "GET, HEAD, OPTIONS"},
        {"/v1/relations/r/get", "POST, OPTIONS"},
        {"/v1/relations/r/1/count", "GET, HEAD, OPTIONS"},
    };
    struct world w;
    open_sets(&w);
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        char text[256], want[256];
        snprintf(text, sizeof text, "OPTIONS %s " H "\r\n", allowed[i].input);
        snprintf(want, sizeof want, "HTTP/1.1 204 No Content\r\nAllow: %s\r\n\r\n",
                 allowed[i].output);
        feed(&w, text);
        assert_string_equal(taken(&w), want);
    }
    char whole[GOT_SIZE];
    feed(&w, READ("1"));
    snprintf(whole, sizeof whole, "%s", taken(&w));
    feed(&w, "HEAD /v1/relations/r/1 " H "\r\n");
    const char *head = taken(&w);
    assert_int_equal(strncmp(whole, head, strlen(head)), 0);
    assert_string_equal(head + strlen(head) - 4, "\r\n\r\n");
    assert_non_null(strstr(whole + strlen(head), "[1,2,3,4,5]"));
    feed(&w, "GET /v1/relations/r/1/count " H "X-Varve-Trace: 1\r\n\r\n");
    assert_non_null(strstr(taken(&w), "X-Varve-Sequence:                     2\r\n"));
    world_close(&w);
}

// ---- large ones ----

#define LARGE (32u << 20)

static void open_large(struct world *w)
{
    world_open(w);
    fake_conn_free(w->conn);
    http_free(w->http);
    struct http_options o = {
        .commit = w->commit, .max_key = 64, .max_value = 512, .max_request = LARGE};
    assert_ok(http_new(&w->http, &o));
    w->conn = fake_conn_new(http_protocol(w->http));
}

// A body with `n` ids from `first` on, `step` apart.
static void send_ids(struct world *w, const char *request, uint64_t first, uint64_t step, size_t n)
{
    char *body = malloc(LARGE), head[256];
    assert_non_null(body);
    size_t size = (size_t)snprintf(body, LARGE, "{\"members\":[");
    for (size_t i = 0; i < n; i++)
        size += (size_t)snprintf(body + size, LARGE - size, i ? ",%llu" : "%llu",
                                 (unsigned long long)(first + i * step));
    size += (size_t)snprintf(body + size, LARGE - size, "]}");
    snprintf(head, sizeof head, "%s " H "Content-Length: %zu\r\n\r\n", request, size);
    feed(w, head);
    fake_conn_feed(w->conn, body, size);
    free(body);
}

// The body of the one reply that is there.
static const char *reply_body(struct world *w)
{
    struct buf *out = conn_out(w->conn);
    assert_ok(buf_append(out, "", 1));
    const char *body = strstr((const char *)buf_head(out), "\r\n\r\n");
    assert_non_null(body);
    return body + 4;
}

static void a_million(void **state)
{
    struct world w;
    open_large(&w);
    send_ids(&w, "POST /v1/relations/r/1", 5, 3, LIMIT_REL_MEMBERS + 1);
    assert_output(&w, FAIL("413", "\\\"members\\\" holds 1000001 ids, over 1000000"));
    send_ids(&w, "POST /v1/relations/r/1", 5, 3, LIMIT_REL_MEMBERS);
    assert_output(&w, ADDED("1000000"));
    feed(&w, READ("1?limit=1000000"));
    const char *p = reply_body(&w);
    const char *list = strstr(p, "\"members\":[");
    assert_non_null(list);
    static const char begin[] = "{\"relation\":\"r\",\"from\":1,\"count\":1000000,";
    assert_int_equal(strncmp(p, begin, strlen(begin)), 0);
    char *at = (char *)list + 11;
    for (uint64_t i = 0; i < LIMIT_REL_MEMBERS; i++) {
        assert_int_equal(strtoull(at, &at, 10), 5 + 3 * i);
        assert_int_equal(*at, i + 1 == LIMIT_REL_MEMBERS ? ']' : ',');
        at++;
    }
    assert_string_equal(at, ",\"more\":false}");
    fake_conn_take(w.conn);
    // Several lists that give more than a page may hold.
    send_text(&w, COMBINE("get", "{\"from\":[1,1],\"limit\":500000}"));
    assert_non_null(strstr(reply_body(&w), "]}]}"));
    fake_conn_take(w.conn);
    send_text(&w, COMBINE("get", "{\"from\":[1,1,1],\"limit\":500000}"));
    assert_output(
        &w, ERROR("413", "these lists give over 1000000 members: ask for fewer, or with a limit"));
    // So much is combined on a reader thread; it may find that a list has become cold.
    fake_commit_defer(w.commit, true);
    send_text(&w, COMBINE("intersect", "{\"lists\":[1,1],\"limit\":2}"));
    fake_rel_cold(w.commit, "r", 1, false);
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit); // the combination
    fake_conn_run(w.conn);
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit); // the fetch
    fake_conn_run(w.conn);
    fake_commit_work(w.commit); // the combination again
    fake_conn_run(w.conn);
    assert_int_equal(w.conn->gate, 1);
    assert_output(&w, COMBINED("5,8") NEXT("8"));
    fake_rel_work(w.commit, 3);
    send_text(&w, COMBINE("difference", "{\"lists\":[1,1],\"limit\":2}"));
    settle(&w);
    assert_output(&w, COMBINED("") NEXT("11"));
    // A union is not longer than its page.
    send_text(&w, COMBINE("union", "{\"lists\":[1,1],\"limit\":2}"));
    assert_output(&w, COMBINED("5,8") NEXT("8"));
    // The connection dies while it runs.
    send_text(&w, COMBINE("difference", "{\"lists\":[1,1],\"limit\":2}"));
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    world_close(&w);
}

// So many members in one request, however they are spread.
static void a_million_together(void **state)
{
    struct world w;
    open_large(&w);
    static const char *const parts[] = {"{\"add\":[{\"from\":1,\"members\":[",
                                        "]}],\"remove\":[{\"from\":1,\"members\":[", "]}]}"};
    char *body = malloc(LARGE), head[256];
    assert_non_null(body);
    size_t size = 0;
    for (size_t part = 0; part < 3; part++) {
        size += (size_t)snprintf(body + size, LARGE - size, "%s", parts[part]);
        for (size_t i = 0; part < 2 && i < LIMIT_REL_MEMBERS / 2 + part; i++)
            size += (size_t)snprintf(body + size, LARGE - size, i ? ",7" : "7");
    }
    snprintf(head, sizeof head, "POST /v1/relations/r " H "Content-Length: %zu\r\n\r\n", size);
    feed(&w, head);
    fake_conn_feed(w.conn, body, size);
    assert_output(&w, FAIL("413", "remove[0]: the request holds over 1000000 members"));
    free(body);
    world_close(&w);
}

// All lists, page after page.
static void many_lists(void **state)
{
    struct world w;
    world_open(&w);
    uint8_t packed[8];
    store64(packed, 1);
    struct rel_group group = {.members = packed, .count = 1};
    struct rel_edit e = {.relation = slice_str("r"), .groups = &group, .count = 1};
    for (uint64_t i = 0; i < 500; i++) {
        group.from = i;
        fake_rels_apply(fake_commit_rels(w.commit), &e, true);
    }
    uint64_t last = 0;
    bool seen[500] = {false};
    for (size_t pages = 1;; pages++) {
        char text[256];
        int n = snprintf(text, sizeof text, "GET /v1/relations/r/froms?limit=60");
        if (pages > 1)
            n += snprintf(text + n, sizeof text - (size_t)n, "&after=%llu",
                          (unsigned long long)last);
        snprintf(text + n, sizeof text - (size_t)n, " " H "\r\n");
        feed(&w, text);
        summary(&w, got, sizeof got);
        for (char *at = got; (at = strstr(at, "{\"from\":")); at++) {
            last = strtoull(at + 8, NULL, 10);
            assert_true(last < 500 && !seen[last]);
            seen[last] = true;
        }
        if (!strstr(got, "\"more\":true")) {
            assert_int_equal(pages, 9);
            break;
        }
    }
    for (size_t i = 0; i < 500; i++)
        assert_true(seen[i]);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relations),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_bad_ids),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_several),
        cmocka_unit_test(cold),
        cmocka_unit_test(room),
        cmocka_unit_test(failures),
        cmocka_unit_test(gates),
        cmocka_unit_test(idempotency),
        cmocka_unit_test(methods),
        cmocka_unit_test(a_million),
        cmocka_unit_test(a_million_together),
        cmocka_unit_test(many_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
